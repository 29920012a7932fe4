//! Stored modules: listed, saved as files, and deployed again, at the file of a hub and over HTTP.

use perennial::{Client, Module};
use perennial_tests::guest;

use crate::remote::serve;
use crate::see::Cli;

/// The digest of a module, as `modules` shows it.
fn digest(name: &str) -> String {
    let module = Module::from_file(guest(name)).unwrap();
    module.digest().to_string()
}

/// A hub with both versions as `orders`, the second one deployed.
fn two_versions() -> Cli {
    let cli = Cli::new();
    for version in ["version-one", "version-two"] {
        let file = guest(version);
        cli.ok(&["deploy", file.to_str().unwrap(), "--name", "orders"]);
    }
    cli
}

fn roll_back(cli: &Cli, at: &[&str]) {
    let run = |args: &[&str]| cli.see(&[args, at].concat());
    let (first, second) = (digest("version-one"), digest("version-two"));
    // As it is: digests are left out of what `see` returns.
    let raw = |args: &[&str]| {
        let output = cli.command(&[args, at].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = raw(&["modules", "--stored"]);
    assert!(listed.contains("deployed as") && listed.contains("version of"));
    assert!(listed.contains(&first[..12]) && listed.contains(&second[..12]));

    let saved = cli.dir.path().join("saved.wasm");
    let path = saved.to_str().unwrap();
    let told = run(&["modules", "save", &first[..8], path]);
    assert!(told.contains("is the component of module"), "{told}");
    let again = Module::from_file(&saved).unwrap();
    assert_eq!(again.digest().to_string(), first);
    let told = run(&["modules", "save", &first[..8], path]);
    assert!(
        told.contains("name a file that does not exist yet"),
        "{told}"
    );
    std::fs::remove_file(&saved).unwrap();

    let told = run(&["deploy", "--stored", &first[..8]]);
    assert!(told.contains("updated from"), "{told}");
    assert!(raw(&["modules"]).contains(&first[..12]));
    let told = run(&["deploy", "--stored", &second[..8], "--name", "orders"]);
    assert!(told.contains("updated from"), "{told}");
    for (args, code) in [
        (&["deploy", "--stored", "0123456789ab"][..], 3),
        (&["modules", "save", "nobody", path][..], 3),
        (&["deploy", "--stored", "0123456789ab", "x.wasm"][..], 2),
        (&["deploy"][..], 2),
    ] {
        let told = run(args);
        assert!(told.contains(&format!("exit code Some({code})")), "{told}");
    }
}

#[test]
fn a_stored_module_is_saved_and_deployed_again() {
    let cli = two_versions();
    roll_back(&cli, &[]);
    let told = cli.see(&["deploy", "--check", "--stored", &digest("version-one")[..8]]);
    assert!(told.contains("checked, not deployed"), "{told}");
    // Nothing says any more which module it was a version of.
    cli.ok(&["modules", "remove", "orders"]);
    let told = cli.see(&["deploy", "--stored", &digest("version-one")[..8]]);
    assert!(told.contains("--name NAME"), "{told}");
    cli.ok(&[
        "deploy",
        "--stored",
        &digest("version-one")[..8],
        "--name",
        "shop",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_module_is_saved_and_deployed_again_over_http() {
    let cli = two_versions();
    let (_host, url) = serve(&cli, &[]);
    roll_back(&cli, &["--url", &url]);
    let client = Client::connect(&url, "default", None).unwrap();
    let first = digest("version-one");
    let done = client.deploy_stored(&first[..8]).await.unwrap();
    assert_eq!(
        (done.name.as_str(), done.digest.to_string()),
        ("orders", first.clone())
    );
    let module = client.load_module(&first[..8]).await.unwrap();
    assert_eq!(
        (module.name(), module.digest().to_string()),
        ("orders", first)
    );
    let gone = client.component("0123456789ab").await.unwrap_err();
    assert!(gone.is_not_stored() && gone.is_unknown_module(), "{gone}");
}
