//! Connections by TLS, to a server with a certificate of an authority that the test makes.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::{Server, say_skipped};

/// What openssl is told; the certificate of the server is for the name `localhost` only.
const OPENSSL: &str = "
[req]
distinguished_name = nothing
prompt = no
[nothing]
CN = set below
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
";

fn openssl(dir: &Path, args: &str) -> bool {
    let ran = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output();
    let Ok(ran) = ran else { return false };
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "openssl {args}: {said}");
    true
}

/// Makes the authorities `good` and `bad`, of the same name, and a certificate by the good one. `false` if there is no openssl.
fn issue(dir: &Path) -> bool {
    std::fs::write(dir.join("conf"), OPENSSL).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config conf";
    ["good", "bad"].iter().all(|name| {
        let args = "-x509 -subj /CN=authority -extensions authority -days 2";
        openssl(
            dir,
            &format!("req {args} {key} -keyout {name}.key -out {name}.pem"),
        )
    }) && openssl(
        dir,
        &format!("req -new -subj /CN=server {key} -keyout server.key -out server.csr"),
    ) && openssl(
        dir,
        "x509 -req -in server.csr -CA good.pem -CAkey good.key -set_serial 2 -days 2 -extfile conf -extensions server -out server.pem",
    )
}

/// A server with TLS, and the files of its authorities.
struct Secured {
    files: tempfile::TempDir,
    server: Server,
    port: u16,
}

impl Secured {
    fn new() -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let is_issued = issue(files.path());
        let read = |name| std::fs::read(files.path().join(name)).unwrap_or_default();
        let started = is_issued
            .then(|| Server::with_tls(&read("server.pem"), &read("server.key")))
            .flatten();
        let Some((server, port)) = started else {
            say_skipped();
            return None;
        };
        Some(Self {
            files,
            server,
            port,
        })
    }

    /// The parameter that names an authority.
    fn roots(&self, name: &str) -> String {
        format!("&sslrootcert={}", self.files.path().join(name).display())
    }

    fn address(&self, user: &str, host: &str, query: &str) -> Address {
        let port = self.port;
        let text = format!("postgres://{user}@{host}:{port}/postgres?hostaddr=127.0.0.1&{query}");
        Address::parse(&text).unwrap()
    }

    /// Whether a connection is encrypted.
    fn connect(&self, user: &str, host: &str, query: &str) -> Result<bool, StoreError> {
        let session = Session::open(&self.address(user, host, query), Purpose::Manage)?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok(session.query_opt(sql, &[])?.unwrap().get(0))
    }

    /// What is said of a connection that there cannot be.
    fn refused(&self, user: &str, host: &str, query: &str) -> String {
        let error = self.connect(user, host, query).unwrap_err();
        let (said, debug) = (error.to_string(), format!("{error:?}"));
        for text in [&said, &debug] {
            assert!(!text.contains("s3cret"), "{text}");
        }
        said
    }

    /// A session over the socket of the server.
    fn manage(&self) -> Session {
        let dir = self.server.sockets();
        let text = format!(
            "postgres://perennial@/postgres?host={}&port={}",
            dir.display(),
            self.port
        );
        Session::open(&Address::parse(&text).unwrap(), Purpose::Manage).unwrap()
    }
}

#[test]
fn each_mode_of_tls_checks_what_it_should_and_says_what_is_wrong() {
    let Some(server) = Secured::new() else { return };
    let (good, bad) = (server.roots("good.pem"), server.roots("bad.pem"));
    for (host, query, is_encrypted) in [
        ("localhost", "sslmode=disable".to_owned(), false),
        ("localhost", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", String::new(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=require{good}"), true),
        ("127.0.0.1", format!("sslmode=verify-ca{good}"), true),
        ("localhost", format!("sslmode=verify-full{good}"), true),
    ] {
        let found = server.connect("perennial", host, &query).unwrap();
        assert_eq!(found, is_encrypted, "{host}, {query}");
    }
    let unknown = [
        "sslrootcert",
        "name a file with the certificate of the authority",
    ];
    let wrong_name = ["localhost", "use a host name of the certificate"];
    for (host, query, words) in [
        ("localhost", format!("sslmode=require{bad}"), unknown),
        ("localhost", format!("sslmode=verify-ca{bad}"), unknown),
        ("localhost", format!("sslmode=verify-full{bad}"), unknown),
        // Neither the system nor Mozilla knows this authority.
        ("localhost", "sslmode=verify-full".to_owned(), unknown),
        ("localhost", "sslrootcert=system".to_owned(), unknown),
        (
            "127.0.0.1",
            format!("sslmode=verify-full{good}"),
            wrong_name,
        ),
    ] {
        let said = server.refused("perennial", host, &query);
        let place = format!(
            "could not connect to postgres://perennial@{host}:{}/",
            server.port
        );
        for word in words.iter().chain(&[&*place]) {
            assert!(said.contains(word), "{host}, {query}: {said}");
        }
    }
    for (file, text) in [
        ("none.pem", None),
        ("no.pem", Some("")),
        (
            "wrong.pem",
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ),
    ] {
        if let Some(text) = text {
            std::fs::write(server.files.path().join(file), text).unwrap();
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let query = format!("sslmode={mode}{}", server.roots(file));
            let said = server.refused("perennial", "localhost", &query);
            assert!(
                said.contains(file) && said.contains("cannot be used"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_server_without_tls_is_told_where_it_is_required() {
    let Some(server) = Secured::new() else { return };
    let manage = server.manage();
    manage.batch("ALTER SYSTEM SET ssl = off").unwrap();
    manage.batch("SELECT pg_reload_conf()").unwrap();
    let is_on = || -> bool {
        let row = server
            .manage()
            .query_opt("SELECT current_setting('ssl') = 'on'", &[]);
        row.unwrap().unwrap().get(0)
    };
    while is_on() {}
    for mode in ["disable", "prefer"] {
        let query = format!("sslmode={mode}");
        assert!(!server.connect("perennial", "localhost", &query).unwrap());
    }
    for mode in ["require", "verify-full"] {
        let said = server.refused("perennial", "localhost", &format!("sslmode={mode}"));
        assert!(said.contains("turn on ssl in the server"), "{said}");
    }
}

#[test]
fn a_password_is_in_no_error() {
    let Some(server) = Secured::new() else { return };
    server
        .manage()
        .batch("SET password_encryption = 'scram-sha-256'; CREATE ROLE secretive LOGIN PASSWORD 's3cret'")
        .unwrap();
    let query = format!("sslmode=verify-full{}", server.roots("good.pem"));
    assert!(
        server
            .connect("secretive:s3cret", "localhost", &query)
            .unwrap()
    );
    let address = server.address("secretive:s3cret", "localhost", &query);
    assert!(!format!("{address} {address:?}").contains("s3cret"));
    let wrong = server.refused("secretive:wr0ng-s3cret", "localhost", &query);
    assert!(
        wrong.contains("password authentication failed")
            && wrong.contains("in PGPASSWORD or in the password file"),
        "{wrong}"
    );
    let plain = server.refused("secretive:s3cret", "localhost", "sslmode=disable");
    assert!(
        // The second is what PostgreSQL 12 and 13 say.
        (plain.contains("no encryption") || plain.contains("SSL off")) && plain.contains("sslmode"),
        "{plain}"
    );
    let missing = format!("{query}&passfile=/nowhere");
    let missing = server.refused("secretive", "localhost", &missing);
    assert!(missing.contains("password file, ~/.pgpass"), "{missing}");
    let file = server.files.path().join("pgpass");
    std::fs::write(&file, "localhost:*:*:secretive:s3cret").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).unwrap();
    let query = format!("{query}&passfile={}", file.display());
    assert!(server.connect("secretive", "localhost", &query).unwrap());
}
