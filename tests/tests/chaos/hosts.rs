//! A database and the hosts that share a hub in it, each started again when it ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Its API, once it runs the hub too.
    url: Option<String>,
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
    slots: Vec<Arc<Slot>>,
    stops: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Cluster {
    /// Starts so many hosts.
    pub(crate) fn start(database: Database, hosts: usize) -> Self {
        let slots: Vec<Arc<Slot>> = (0..hosts)
            .map(|number| {
                Arc::new(Slot {
                    number,
                    dir: DataDir::of_files(),
                    life: watch::Sender::default(),
                    lines: Mutex::default(),
                    ended: Mutex::default(),
                })
            })
            .collect();
        let stops = Arc::<AtomicBool>::default();
        let address = database.address();
        let threads = slots.iter().map(|slot| {
            let (slot, stops) = (Arc::clone(slot), Arc::clone(&stops));
            let address = format!("{address}&application_name=host{}", slot.number);
            std::thread::spawn(move || {
                while !stops.load(Ordering::Acquire) {
                    slot.live(&address);
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

    /// A client of a host that runs: this one, or the next one that does.
    fn reach(slots: &[Arc<Slot>], number: u64) -> Option<Client> {
        let at = usize::try_from(number).unwrap_or_default() % slots.len();
        let (before, after) = slots.split_at(at);
        let mut urls = after
            .iter()
            .chain(before)
            .map(|slot| slot.life.borrow().url.clone());
        let url = urls.find_map(|url| url)?;
        Some(Client::connect(&url, DEFAULT_TASK_HUB, None).unwrap())
    }

    /// The same for whoever does not hold the cluster.
    pub(crate) fn reacher(&self) -> crate::load::Reach {
        let slots = self.slots.clone();
        Arc::new(move |number| Self::reach(&slots, number))
    }

    /// A host that runs, the first from this number on. Waits until one does.
    pub(crate) async fn running(&self, from: u64) -> usize {
        let begun = std::time::Instant::now();
        loop {
            let all = (0..self.slots.len())
                .map(|n| (n + usize::try_from(from).unwrap_or_default()) % self.slots.len());
            let mut running = all.filter(|slot| self.life(*slot).url.is_some());
            if let Some(slot) = running.next() {
                return slot;
            }
            assert!(begun.elapsed() < HOST_MAX, "no host runs");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn all(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
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
        for slot in 0..self.slots.len() {
            // One that is started at this moment sees that it is to stop.
            self.signal(slot, "-KILL");
        }
        for thread in std::mem::take(&mut self.threads) {
            while !thread.is_finished() {
                for slot in 0..self.slots.len() {
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
    fn live(self: &Arc<Self>, address: &str) {
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
                    self.is_ready(&line);
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

    fn is_ready(&self, line: &str) {
        if let Some(from) = line.find("http://127.0.0.1:") {
            let url = &line[from..];
            let end = url.find(|c: char| !c.is_ascii_alphanumeric() && !":/.".contains(c));
            let url = url[..end.unwrap_or(url.len())]
                .trim_end_matches('/')
                .to_owned();
            self.life.send_modify(|life| life.url = Some(url));
        }
    }

    fn said(&self, line: &str) {
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
