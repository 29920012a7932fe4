//! What may be deployed, and what is said of everything else.

use perennial::{Module, ModuleInfo, Status, UpdatedName};
use perennial_tests::{DataDir, guest, module};

fn refused(bytes: &[u8], words: &[&str]) {
    let error = Module::from_bytes("m", bytes).unwrap_err();
    assert!(error.is_invalid(), "{error}");
    for word in words {
        assert!(
            error.to_string().contains(word),
            "{error} does not say {word:?}"
        );
    }
}

#[test]
fn what_is_no_module_is_refused_by_what_it_is() {
    refused(b"", &["empty"]);
    refused(b"fn main() {}", &["not a WebAssembly file", "text"]);
    refused(
        &std::fs::read("/proc/self/exe").unwrap()[..4096],
        &["not a WebAssembly file", "ELF"],
    );
    refused(b"\0asm\x01\0\0\0", &["component type"]);
    refused(b"\0asm\x0d\0\x01\0", &["perennial:workflow"]);
}

#[test]
fn a_module_that_breaks_off_is_refused() {
    let whole = std::fs::read(guest("hello-sequence")).unwrap();
    for part in [9, 100, 1_000, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..part], &[]);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Module::from_file("no/such.wasm").unwrap_err().to_string();
    assert!(error.contains("no/such.wasm"), "{error}");
}

#[tokio::test]
async fn names_belong_to_the_module_that_defined_them_first() {
    let dir = DataDir::new();
    let client = dir.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    let error = client
        .deploy(module("hello-sequence").named("other"))
        .await
        .unwrap_err();
    assert!(error.is_name_taken(), "{error}");
    assert!(error.to_string().contains("\"hello-sequence\""), "{error}");
    let taken = client
        .deploy(module("hello-sequence").named("other"))
        .replace()
        .await
        .unwrap();
    assert_eq!(taken.names.len(), 2);
    let same = Some(taken.digest);
    let moved = |name: &UpdatedName| name.changed && name.before == same;
    assert!(taken.names.iter().all(moved), "of another module now");
    let modules = client.modules().await.unwrap();
    let names = |module: &ModuleInfo| (module.name.clone(), module.definitions.len());
    assert_eq!(
        modules.iter().map(names).collect::<Vec<_>>(),
        [("hello-sequence".to_owned(), 0), ("other".to_owned(), 2)],
        "each lists what is its own"
    );
}

#[tokio::test]
async fn nothing_is_granted_unless_it_is() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("fan-out")).await.unwrap();
    let id = client
        .start("FanOut")
        .input(&serde_json::json!({ "root": "/data" }))
        .await
        .unwrap();
    let limit = std::time::Duration::from_secs(60);
    let status = client
        .wait_for_completion(&id, limit)
        .await
        .unwrap()
        .reached()
        .unwrap();
    assert_eq!(status.runtime_status, Status::Failed);
    assert_eq!(status.failure.unwrap().kind, "DirectoryNotReadable");
    // A grant needs no new deployment.
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("a.txt"), "one two\nthree\n").unwrap();
    let data = perennial::DirGrant::new(data.path(), "/data");
    let grants = perennial::Grants::new().dir(data);
    client.grant("fan-out", &grants).await.unwrap();
    let id = client
        .start("FanOut")
        .input(&serde_json::json!({ "root": "/data" }))
        .await
        .unwrap();
    let status = client
        .wait_for_completion(&id, limit)
        .await
        .unwrap()
        .reached()
        .unwrap();
    let report: serde_json::Value = status.output_as().unwrap();
    assert_eq!(report["totals"]["words"], 3, "{report}");
    assert_eq!(report["files"][0]["path"], "/data/a.txt", "{report}");
    host.shut_down().await;
}

#[tokio::test]
async fn a_live_instance_keeps_its_module() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    let id = client.start("Wait").await.unwrap();
    let before = client.status(&id).await.unwrap().unwrap().module;
    // Another module takes the name over; the instance goes on with the one it started on, also after a restart.
    let taken = client
        .deploy(module("hello-sequence").named("workloads"))
        .await
        .unwrap();
    assert_ne!(Some(taken.digest), before);
    assert!(
        client
            .start("Wait")
            .await
            .unwrap_err()
            .is_unknown_orchestration()
    );
    host.shut_down().await;
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.raise_event(&id, "Go", "on").await.unwrap();
    let status = client
        .wait_for_completion(&id, std::time::Duration::from_secs(60))
        .await
        .unwrap()
        .reached()
        .unwrap();
    assert_eq!(status.output.unwrap().as_str(), "\"on\"");
    assert_eq!(status.module, before);
    host.shut_down().await;
}
