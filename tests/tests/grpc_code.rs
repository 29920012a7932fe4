//! The generated code of the gRPC API is what `host/proto/durabletask.proto` describes. `UPDATE_EXPECT=1` writes it.
//!
//! The host's part is committed, so that building the host needs neither `protoc` nor a build script. Tests have the messages once more,
//! with a client.

use perennial_tests::root;

/// Generates the code for a server, or for a client.
fn generated(server: bool) -> String {
    let dir = root().join("host/proto");
    let described = protox::compile([dir.join("durabletask.proto")], [dir]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_server(server)
        .build_client(!server)
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(described)
        .unwrap();
    // A file without a package has this name.
    std::fs::read_to_string(out.path().join("_.rs")).unwrap()
}

#[test]
fn the_committed_code_is_generated_from_the_protocol() {
    for (server, path) in [
        (true, "host/src/grpc/generated.rs"),
        (false, "tests/tests/grpc/generated.rs"),
    ] {
        let file = root().join(path);
        let generated = generated(server);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap();
        assert!(
            committed == generated,
            "{path} is not what the protocol describes; set UPDATE_EXPECT=1 to write it"
        );
    }
}
