//! Measures the memory that a guest really occupies.
//!
//! The size of a linear memory says little: most of a program's initial memory is a stack that it never touches, and data that all its
//! instances share until they write to it. Only touched pages count, and each of them caused a page fault of the thread that ran the guest.
//! So this module counts faults around each run. Memory that a pool slot kept resident from its former guest causes no fault; that is
//! bounded by what a slot keeps.

use std::sync::OnceLock;

/// The system may use huge pages for memories of at least this size.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The pages that a guest has touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pages: u64,
}

impl Touched {
    /// Runs guest code on this thread, and counts the pages that it touches.
    pub(super) fn by<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let before = faults_of_thread();
        let result = run();
        self.pages = self
            .pages
            .saturating_add(faults_of_thread().saturating_sub(before));
        result
    }

    /// The bytes that a guest occupies if it allocated `allocated`: at most that, and exactly that if touched pages cannot be counted.
    pub(super) fn bytes(&self, allocated: usize) -> usize {
        let page_bytes = match pages() {
            Pages::Countable { bytes } => *bytes,
            Pages::HugeFrom { bytes } if allocated < HUGE_PAGE_BYTES => *bytes,
            Pages::HugeFrom { .. } | Pages::Unknown => return allocated,
        };
        let touched = usize::try_from(self.pages).unwrap_or(usize::MAX);
        touched.saturating_mul(page_bytes).min(allocated)
    }
}

/// Whether touched pages can be counted in memories of any size.
#[cfg(test)]
pub(super) fn is_exact() -> bool {
    matches!(pages(), Pages::Countable { .. })
}

/// How much memory a page fault maps.
#[derive(Debug, PartialEq, Eq)]
enum Pages {
    /// One page of this size.
    Countable { bytes: usize },
    /// One page of this size in a small memory, perhaps a huge page in a larger one.
    HugeFrom { bytes: usize },
    /// Unknown.
    Unknown,
}

fn pages() -> &'static Pages {
    static PAGES: OnceLock<Pages> = OnceLock::new();
    PAGES.get_or_init(find_pages)
}

#[cfg(target_os = "linux")]
fn find_pages() -> Pages {
    let bytes = rustix::param::page_size();
    let settings = std::path::Path::new("/sys/kernel/mm/transparent_hugepage");
    let setting = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let huge = setting(&settings.join("enabled")).contains("[always]");
    let sizes = std::fs::read_dir(settings).into_iter().flatten().flatten();
    let any_size = sizes
        .filter(|entry| entry.file_name().to_string_lossy() != "hugepages-2048kB")
        .map(|entry| setting(&entry.path().join("enabled")))
        .any(|size| size.contains("[always]") || (huge && size.contains("[inherit]")));
    match (any_size, huge) {
        (true, _) => Pages::Unknown,
        (false, true) => Pages::HugeFrom { bytes },
        (false, false) => Pages::Countable { bytes },
    }
}

#[cfg(not(target_os = "linux"))]
fn find_pages() -> Pages {
    Pages::Unknown
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "no library that is used here asks the system for this"
)]
fn faults_of_thread() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to memory of the right size and alignment that nothing else has, and all zeros, as it stays if the call fails,
    // are a value of this type.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    // Major faults, which wait for a disk, concern pages that were touched before.
    u64::try_from(usage.ru_minflt).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn faults_of_thread() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_counts_and_what_is_only_there_does_not() {
        if *pages() == Pages::Unknown {
            return;
        }
        const BYTES: usize = 64 << 20;
        let mut touched = Touched::default();
        let mut memory = touched.by(|| vec![0_u8; BYTES]);
        assert!(touched.bytes(BYTES) < 1 << 20 || matches!(pages(), Pages::HugeFrom { .. }));
        touched.by(|| memory.fill(1));
        assert_eq!(std::hint::black_box(&memory)[BYTES / 2], 1);
        assert!(touched.bytes(BYTES) >= BYTES * 9 / 10);
        assert!(touched.bytes(usize::MAX) >= BYTES * 9 / 10);
        assert_eq!(touched.bytes(1_000), 1_000, "never more than there is");
    }
}
