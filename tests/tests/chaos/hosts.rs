//! A database and two hosts of one hub, each started again when it ends: one owns the hub, the other one stands by.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial::{Client, DEFAULT_TASK_HUB};
use perennial_tests::postgres::Database;
use perennial_tests::{DataDir, Process, binary};
use tokio::sync::watch;

/// How long a host may take to what it must do.
const HOST_MAX: Duration = Duration::from_secs(60);

/// Lines of each host that are kept for whoever looks for the cause of a failure.
const LINES: usize = 200;

/// What is known of a host's process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    /// `None` between two processes.
    pid: Option<u32>,
    /// Its API.
    url: Option<String>,
    /// A number that grows with each host that came to own the hub; `None` while it stands by.
    owns: Option<u64>,
}

/// A host, life after life.
struct Slot {
    number: usize,
    dir: DataDir,
    life: watch::Sender<Life>,
    lines: Mutex<Vec<String>>,
    /// How it ended where nobody killed it.
    ended: Mutex<Vec<String>>,
}

/// See the [module](self).
pub(crate) struct Cluster {
    pub(crate) database: Mutex<Database>,
    slots: [Arc<Slot>; 2],
    stops: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Cluster {
    pub(crate) fn start(database: Database) -> Self {
        let slots = [0, 1].map(|number| {
            Arc::new(Slot {
                number,
                dir: DataDir::new(),
                life: watch::Sender::default(),
                lines: Mutex::default(),
                ended: Mutex::default(),
            })
        });
        let (stops, owners) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let address = database.address();
        let threads = slots.iter().map(|slot| {
            let (slot, stops, owners) = (Arc::clone(slot), Arc::clone(&stops), Arc::clone(&owners));
            let address = format!("{address}&application_name=host{}", slot.number);
            std::thread::spawn(move || {
                while !stops.load(Ordering::Acquire) {
                    slot.live(&address, &owners);
                }
            })
        });
        Self {
            threads: threads.collect(),
            database: Mutex::new(database),
            slots,
            stops,
        }
    }

    /// A client of the owner, or of the one that stands by, for one number of four.
    fn reach(slots: &[Arc<Slot>; 2], number: u64) -> Option<Client> {
        let lives = [0, 1].map(|slot: usize| slots[slot].life.borrow().clone());
        let owner = usize::from(lives[1].owns > lives[0].owns);
        let life = match (number, &lives[1 - owner].url) {
            (1, Some(_)) => &lives[1 - owner],
            _ => &lives[owner],
        };
        let url = life.url.as_ref()?;
        Some(Client::connect(url, DEFAULT_TASK_HUB, None).unwrap())
    }

    /// The same for whoever does not hold the cluster.
    pub(crate) fn reacher(&self) -> crate::load::Reach {
        let slots = self.slots.clone();
        Arc::new(move |number| Self::reach(&slots, number))
    }

    /// Which host owns the hub. Waits until one does.
    pub(crate) async fn owner(&self) -> usize {
        let owns = |life: &Life| life.owns.is_some() && life.pid.is_some();
        let [a, b] = [0, 1].map(|slot| self.until(slot, "a host owns the hub", owns));
        tokio::select! { _ = a => {}, _ = b => {} }
        let [a, b] = [0, 1].map(|slot: usize| self.slots[slot].life.borrow().owns);
        usize::from(b > a)
    }

    pub(crate) fn life(&self, slot: usize) -> Life {
        self.slots[slot].life.borrow().clone()
    }

    /// Waits until it is so with a host.
    pub(crate) async fn until(&self, slot: usize, what: &str, is: impl Fn(&Life) -> bool) {
        let mut life = self.slots[slot].life.subscribe();
        let waited = tokio::time::timeout(HOST_MAX, life.wait_for(|life| is(life))).await;
        assert!(waited.is_ok(), "not in {HOST_MAX:?}: {what} ({slot})");
    }

    /// Waits until this host owns the hub, and did not before.
    pub(crate) async fn until_owner(&self, slot: usize, before: &Life) {
        let owns = |life: &Life| life.owns > before.owns;
        self.until(slot, "it takes the hub over", owns).await;
    }

    /// Waits until a process is gone.
    pub(crate) async fn until_gone(&self, slot: usize, pid: Option<u32>) {
        self.until(slot, "its process ends", |life| life.pid != pid)
            .await;
    }

    /// Sends a signal to a host, if it lives.
    pub(crate) fn signal(&self, slot: usize, name: &str) -> Option<u32> {
        let pid = self.life(slot).pid?;
        // It may have ended by itself.
        let _ = Command::new("kill")
            .args([name, &pid.to_string()])
            .stderr(Stdio::null())
            .status();
        Some(pid)
    }

    /// How hosts ended that nobody killed.
    pub(crate) fn ended(&self) -> Vec<String> {
        let of = |slot: &Arc<Slot>| slot.ended.lock().unwrap().clone();
        self.slots.iter().flat_map(of).collect()
    }

    /// The last lines of each host.
    pub(crate) fn lines(&self) -> String {
        let of = |slot: &Arc<Slot>| {
            format!(
                "host {}:\n{}\n",
                slot.number,
                slot.lines.lock().unwrap().join("\n")
            )
        };
        self.slots.iter().map(of).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Release);
        for slot in [0, 1] {
            // One that is started at this moment sees that it is to stop.
            self.signal(slot, "-KILL");
        }
        for thread in std::mem::take(&mut self.threads) {
            while !thread.is_finished() {
                for slot in [0, 1] {
                    self.signal(slot, "-KILL");
                }
                std::thread::yield_now();
            }
            let _ = thread.join();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.lines());
        }
    }
}

impl Slot {
    /// A process, from its start to its end.
    fn live(self: &Arc<Self>, address: &str, owners: &AtomicU64) {
        let child = Command::new(binary())
            .arg("--data-dir")
            .arg(self.dir.path())
            .args([
                "serve",
                "--store",
                address,
                "--listen",
                "127.0.0.1:0",
                "--log",
                "info",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = Process(child.unwrap());
        let pid = process.id();
        self.life.send_replace(Life {
            pid: Some(pid),
            ..Life::default()
        });
        let (out, err) = outputs(&mut process);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for line in BufReader::new(err).lines().map_while(Result::ok) {
                    self.said(&line);
                }
            });
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if line.starts_with("ready: ") {
                    let number = owners.fetch_add(1, Ordering::AcqRel);
                    self.life.send_modify(|life| life.owns = Some(number));
                }
                self.said(&line);
            }
        });
        let status = process.wait().unwrap();
        if let Some(code) = status.code() {
            let mut last = self
                .lines
                .lock()
                .unwrap()
                .iter()
                .rev()
                .take(8)
                .rev()
                .cloned()
                .collect::<Vec<_>>();
            last.retain(|line| !line.trim().is_empty());
            let ended = format!(
                "host {} ended by itself with {code}: {}",
                self.number,
                last.join(" / ")
            );
            self.ended.lock().unwrap().push(ended);
        }
        self.life.send_replace(Life::default());
    }

    fn said(&self, line: &str) {
        if let Some(from) = line.find("http://127.0.0.1:") {
            let url = &line[from..];
            let end = url.find(|c: char| !c.is_ascii_alphanumeric() && !":/.".contains(c));
            let url = url[..end.unwrap_or(url.len())]
                .trim_end_matches('/')
                .to_owned();
            self.life.send_modify(|life| life.url = Some(url));
        }
        let mut lines = self.lines.lock().unwrap();
        if lines.len() >= LINES {
            lines.remove(0);
        }
        lines.push(line.to_owned());
    }
}

fn outputs(child: &mut Child) -> (std::process::ChildStdout, std::process::ChildStderr) {
    (child.stdout.take().unwrap(), child.stderr.take().unwrap())
}
