//! Keys, addresses, TLS, and what is not gRPC.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use perennial::http::{Api, Tls, serve};
use perennial::{Hubs, Role};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tonic::Code;
use tonic::transport::Endpoint;

use crate::see::{LIMIT, Server, code, create, get, stub, with};

#[tokio::test]
async fn a_key_is_needed_where_keys_are_required() {
    let mut server = Server::with(Api::require_keys).await;
    let client = server.client();
    let admin = client.create_key("admin", Role::Admin).await.unwrap();
    let reader = client.create_key("reader", Role::ReadOnly).await.unwrap();
    let (admin_key, read_key) = (admin.secret, reader.secret);
    let bearer = |key: &str| format!("Bearer {key}");
    assert_eq!(code(server.stub.hello(()).await), Code::Unauthenticated);
    let wrong = with(get("a"), &[("authorization", "Bearer wrong")]);
    assert_eq!(
        code(server.stub.get_instance(wrong).await),
        Code::Unauthenticated
    );
    let start = |key: &str| with(create("Wait", "a", None), &[("x-functions-key", key)]);
    let refused = server.stub.start_instance(start(&read_key)).await;
    assert_eq!(code(refused), Code::PermissionDenied);
    server.stub.start_instance(start(&admin_key)).await.unwrap();
    let read = with(get("a"), &[("authorization", &bearer(&read_key))]);
    let read = server.stub.get_instance(read).await.unwrap();
    assert!(read.into_inner().exists);
    // A hub that is not served has no keys, and the caller learns no more.
    let elsewhere = [("taskhub", "other"), ("x-functions-key", &*admin_key)];
    for request in [with((), &elsewhere)] {
        assert_eq!(
            code(server.stub.hello(request).await),
            Code::Unauthenticated
        );
    }
    let other = with(
        crate::generated::CreateTaskHubRequest::default(),
        &elsewhere,
    );
    assert_eq!(
        code(server.stub.create_task_hub(other).await),
        Code::Unauthenticated
    );
    assert_eq!(Hubs::new(server.dir.path()).list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_wait_ends_when_its_key_is_revoked() {
    let mut server = Server::with(Api::require_keys).await;
    let client = server.client();
    let key = client.create_key("one", Role::Admin).await.unwrap();
    let secret = key.secret.clone();
    let start = with(create("Wait", "a", None), &[("x-functions-key", &secret)]);
    server.stub.start_instance(start).await.unwrap();
    let mut waiting = server.stub.clone();
    let request = with(get("a"), &[("x-functions-key", &secret)]);
    let waits = tokio::spawn(async move { waiting.wait_for_instance_completion(request).await });
    client.revoke_key(&key.key.id).await.unwrap();
    let ended = tokio::time::timeout(LIMIT, waits).await.unwrap().unwrap();
    assert_eq!(code(ended), Code::Unauthenticated);
}

#[tokio::test]
async fn http_and_grpc_share_an_address_unless_it_is_only_for_grpc() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    let address = server.address;
    let get = async |address, path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}"))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get(address, "/api/v1/instances/a").await.0, 200);
    let (status, text) = get(address, "/TaskHubSidecarService/Hello").await;
    assert_eq!(status, 415, "{text}");
    let post = reqwest::Client::new()
        .post(format!("http://{address}/TaskHubSidecarService/Hello"))
        .header("content-type", "application/grpc");
    assert_eq!(post.send().await.unwrap().status().as_u16(), 505);

    let only = Server::with(|api| api.this_machine_only().only_grpc()).await;
    let mut stub = only.stub.clone();
    stub.hello(()).await.unwrap();
    assert_eq!(get(only.address, "/healthz").await.0, 200);
    let (status, text) = get(only.address, "/api/v1/instances").await;
    assert_eq!(status, 404);
    assert!(text.contains("only gRPC"), "{text}");
}

#[tokio::test]
async fn grpc_is_served_over_tls_too() {
    let server = Server::new().await;
    let file = |name: &str| perennial_tests::root().join("tests/tests/http").join(name);
    let (cert, key) = (file("tls-cert.pem"), file("tls-key.pem"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopped) = oneshot::channel::<()>();
    let api = Api::new(server.client()).this_machine_only();
    let tls = Some(Tls::from_files(&cert, &key).unwrap());
    tokio::spawn(serve(listener, api, tls, async { drop(stopped.await) }));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&cert).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connects = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connects).await.unwrap();
    let mut stub = stub(channel);
    stub.start_instance(create("HelloSequence", "a", None))
        .await
        .unwrap();
    let end = stub.wait_for_instance_completion(get("a")).await.unwrap();
    assert!(end.into_inner().exists);
}
