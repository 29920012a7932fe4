//! Addresses, what completes them, and password files.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

use tokio_postgres::config::TargetSessionAttrs;

use super::*;

fn parse(text: &str) -> Result<Address, StoreError> {
    Address::parse_with(text, &|_| None)
}

/// Reads an address where these are the variables.
fn parse_where(text: &str, variables: &[(&str, &str)]) -> Result<Address, StoreError> {
    let value = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    Address::parse_with(text, &value)
}

fn password(address: &Address) -> Option<&str> {
    let password = address.config.get_password();
    password.map(|password| std::str::from_utf8(password).unwrap())
}

fn error(result: Result<Address, StoreError>) -> String {
    match result {
        Err(StoreError::Address(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_text_of_an_address_has_no_password() {
    for (given, shown) in [
        (
            "postgres://me:s3cret@db.example.com:5433/app?application_name=a",
            "postgres://me@db.example.com:5433/app#default",
        ),
        (
            "postgresql://me@db/app?password=s3cret",
            "postgres://me@db/app#default",
        ),
        (
            "postgres:///app?host=/var/run/postgresql",
            "postgres:///var/run/postgresql/app#default",
        ),
        (
            "postgres://me@a,b:5433/app",
            "postgres://me@a,b:5433/app#default",
        ),
        (
            "postgres:///app?host=/run/one,/run/two&target_session_attrs=read-write",
            "postgres:///run/one,/run/two/app#default",
        ),
        (
            "postgres:///app?host=one%2Ctwo",
            "postgres://one,two/app#default",
        ),
        ("postgres:///app", "postgres://localhost/app#default"),
    ] {
        let address = parse(given).unwrap();
        assert_eq!(address.to_string(), shown);
        assert_eq!(format!("{address:?}"), shown);
        let other = address.with_hub("other").unwrap();
        assert_eq!(other.of_database(), address.of_database());
        assert_eq!(other.short_digest(), address.short_digest());
    }
    let of_environment = parse_where("postgres://me@db/app", &[("PGPASSWORD", "s3cret")]).unwrap();
    assert_eq!(password(&of_environment), Some("s3cret"));
    assert!(!format!("{of_environment:?}").contains("s3cret"));
}

#[test]
fn what_is_wrong_is_said_without_the_text() {
    for bad in [
        "mysql://me:s3cret@db",
        "postgres://me:s3cret@db/app?hub=s3cret",
        "postgres://me:s3cret@db/app#other",
        "postgres://me:s3cret@/app?host=/run/db#default",
        "postgres://me:s3cret@db/app?sslmode=maybe",
        "postgres://me:s3cret@db/app?passwort=s3cret",
        "postgres://me:s3cret@db:many/app",
        // What is not escaped could be taken for a host, or for a parameter.
        "postgres://me:s@3cret@db/app",
        "postgres://me:s?3cret=1@db/app",
        "postgres://me:s3cret@db:1/app?port=2",
        "postgres://me:s3cret@db/app?port=1,2",
        "postgres://me:s3cret@db/app?sslrootcert=system&sslmode=require",
        // Anybody has a certificate of an authority that all know.
        "postgres://me:s3cret@db/app?sslmode=verify-ca",
    ] {
        let error = error(parse(bad));
        assert!(!error.contains("3cret"), "{error}");
    }
    let address = parse("postgres://db/app").unwrap();
    for bad in ["", "a\"b", "a_b", &"a".repeat(HUB_CHARS_MAX + 1)] {
        assert!(address.with_hub(bad).is_err());
    }
}

#[test]
fn the_modes_of_tls_are_those_of_libpq() {
    for (query, ssl, trust) in [
        ("", SslMode::Prefer, Trust::Anyone),
        ("?sslmode=disable", SslMode::Disable, Trust::Anyone),
        ("?sslmode=require", SslMode::Require, Trust::Anyone),
        (
            "?sslmode=require&sslrootcert=/ca.pem",
            SslMode::Require,
            Trust::Issued,
        ),
        (
            "?sslmode=verify-ca&sslrootcert=/ca.pem",
            SslMode::Require,
            Trust::Issued,
        ),
        (
            "?sslmode=verify-full&sslrootcert=%2Fca.pem",
            SslMode::Require,
            Trust::Named,
        ),
        // No server encrypts what goes over a socket.
        (
            "?sslmode=verify-full&sslrootcert=/ca.pem&host=/run/postgresql",
            SslMode::Disable,
            Trust::Named,
        ),
    ] {
        let place = if query.contains("host") { "" } else { "db" };
        let address = parse(&format!("postgres://{place}/app{query}")).unwrap();
        assert_eq!((address.config.get_ssl_mode(), address.trust), (ssl, trust));
        assert_eq!(address.roots.is_some(), query.contains("sslrootcert"));
    }
    // All of the system's authorities would vouch for anybody.
    let system = parse("postgres://db/app?sslrootcert=system").unwrap();
    assert_eq!((system.trust, system.roots), (Trust::Named, None));
}

#[test]
fn the_variables_of_libpq_complete_an_address() {
    let all = [
        ("PGHOST", "db1,/sockets"),
        ("PGPORT", "5433"),
        ("PGDATABASE", "app"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "s3cret"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "/ca.pem"),
        ("PGAPPNAME", "mine"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGTARGETSESSIONATTRS", "read-write"),
        ("PGOPTIONS", "-c geqo=off"),
    ];
    let address = parse_where("postgres://", &all).unwrap();
    assert_eq!(
        address.to_string(),
        "postgres://me@db1:5433,/sockets:5433/app#default"
    );
    let config = &address.config;
    assert_eq!(password(&address), Some("s3cret"));
    assert_eq!(
        (address.trust, address.roots.as_deref()),
        (Trust::Named, Some("/ca.pem".as_ref()))
    );
    assert_eq!(config.get_application_name(), Some("mine"));
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
    assert_eq!(
        config.get_target_session_attrs(),
        TargetSessionAttrs::ReadWrite
    );
    assert_eq!(config.get_options(), Some("-c geqo=off"));
    // What the address says counts.
    let said = "postgres://you:own@db/base?sslmode=disable&application_name=yours";
    let address = parse_where(said, &all).unwrap();
    assert_eq!(address.to_string(), "postgres://you@db:5433/base#default");
    assert_eq!(password(&address), Some("own"));
    assert_eq!(address.config.get_ssl_mode(), SslMode::Disable);
    assert_eq!(address.config.get_application_name(), Some("yours"));
    let [one, two] = ["postgres://a:1,b/app", "postgres://a,b/app?port=1,2"]
        .map(|text| parse_where(text, &all).unwrap().config);
    assert_eq!(one.get_ports(), [1, 5432]);
    assert_eq!(two.get_ports(), [1, 2]);
    let said = error(parse_where(
        "postgres://db/app",
        &[("PGCONNECT_TIMEOUT", "s3cret")],
    ));
    assert!(
        said.contains("PGCONNECT_TIMEOUT") && !said.contains("s3cret"),
        "{said}"
    );
    // Empty ones are as if they were not there.
    let none = parse_where("postgres://db/app", &[("PGUSER", ""), ("PGPASSWORD", "")]).unwrap();
    assert_eq!(none.to_string(), "postgres://db/app#default");
}

#[test]
fn a_server_with_an_address_only_has_it_for_a_name() {
    let address = parse("postgres://me@/app?hostaddr=127.0.0.1").unwrap();
    assert_eq!(address.config.get_hosts(), [Host::Tcp("127.0.0.1".into())]);
    assert_eq!(address.to_string(), "postgres://me@127.0.0.1/app#default");
}

/// A password file of a test.
struct PassFile(tempfile::TempDir);

impl PassFile {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".pgpass"), text).unwrap();
        let file = Self(dir);
        file.permit(0o600);
        file
    }

    fn permit(&self, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.0.path().join(".pgpass"), mode).unwrap();
    }

    /// Reads an address where this is the home directory.
    fn at_home(&self, text: &str) -> Result<Address, StoreError> {
        parse_where(text, &[("HOME", self.0.path().to_str().unwrap())])
    }

    /// The password of an address.
    fn of(&self, text: &str) -> Option<String> {
        password(&self.at_home(text).unwrap()).map(str::to_owned)
    }
}

#[test]
fn the_password_file_is_that_of_libpq() {
    let file = PassFile::new(
        "# db:*:*:*:comment\n\
         db:5433:app:me:first\r\n\
         db:*:app:me:any port\n\
         db:5432:app:me:never\n\
         lacks:fields\n\
         \n\
         empty:*:*:*:\n\
         empty:*:*:*:the next\n\
         a\\:b:*:d\\\\b:m\\:e:s\\:3\\\\cret:no more\n\
         localhost:*:app:me:local\n\
         /elsewhere:*:app:me:elsewhere\n\
         ::1:*:app:me:not escaped\n\
         \\:\\:1:*:app:me:six\n\
         one:*:app:me:both\n\
         two:*:app:me:both\n\
         *:*:me:me:own database\n\
         *:5439:*:*:last",
    );
    for (address, found) in [
        ("me@db:5433/app", Some("first")),
        ("me@db/app", Some("any port")),
        ("you@db/app", None),
        ("me@db/other", None),
        ("me@empty/app", Some("the next")),
        ("m%3Ae@/d%5Cb?host=a%3Ab", Some("s:3\\cret")),
        ("me@/app", Some("local")),
        ("me@/app?host=/var/run/postgresql", Some("local")),
        ("me@/app?host=/elsewhere", Some("elsewhere")),
        ("me@[::1]/app", Some("six")),
        ("me@one,two/app", Some("both")),
        ("me@any", Some("own database")),
        ("you@any:5439/app", Some("last")),
        ("me:own@db/app", Some("own")),
    ] {
        let found = found.map(str::to_owned);
        assert_eq!(
            file.of(&format!("postgres://{address}")),
            found,
            "{address}"
        );
    }
    // A password is sent to no host that it is not meant for.
    for hosts in ["one,db", "one,unknown"] {
        let said = error(file.at_home(&format!("postgres://me@{hosts}/app")));
        assert!(
            said.contains(".pgpass") && !said.contains("both") && !said.contains("any port"),
            "{said}"
        );
    }
    assert!(!format!("{:?}", file.at_home("postgres://me@db/app")).contains("any port"));
}

#[test]
fn a_password_file_that_others_can_read_is_ignored_and_others_can_be_named() {
    let file = PassFile::new("*:*:*:*:home");
    for mode in [0o640, 0o604, 0o620] {
        file.permit(mode);
        assert_eq!(file.of("postgres://db"), None);
        let why = passfile::read(&file.0.path().join(".pgpass")).unwrap_err();
        let says = format!("its mode is {mode:04o}, so that its group or others");
        assert!(why.starts_with(&says), "{why}");
    }
    file.permit(0o600);
    assert_eq!(file.of("postgres://db").as_deref(), Some("home"));
    let named = PassFile::new("*:*:*:*:named");
    let path = named.0.path().join(".pgpass");
    let home = file.0.path().to_str().unwrap();
    let variables = [("HOME", home), ("PGPASSFILE", path.to_str().unwrap())];
    let found = parse_where("postgres://db", &variables).unwrap();
    assert_eq!(password(&found), Some("named"));
    let text = format!("postgres://db?passfile={}", path.display());
    let found = parse_where(&text, &[("HOME", home)]).unwrap();
    assert_eq!(password(&found), Some("named"));
    // One that is not there is no error: the server may ask for none.
    let found = parse_where("postgres://db", &[("PGPASSFILE", "/nowhere/pgpass")]).unwrap();
    assert_eq!(password(&found), None);
    let why = passfile::read(file.0.path()).unwrap_err();
    assert!(why.contains("not a plain file"), "{why}");
    let variables = [("HOME", home), ("PGPASSWORD", "s3cret")];
    let found = parse_where("postgres://db", &variables).unwrap();
    assert_eq!(password(&found), Some("s3cret"));
}

#[test]
fn a_password_file_that_others_may_read_is_warned_of_once() {
    let file = PassFile::new("db:*:*:*:secret");
    file.permit(0o644);
    assert_eq!(file.of("postgres://me@db/app"), None);
    let path = file.0.path().join(".pgpass");
    assert!(!passfile::is_first(&path), "it was warned of already");
    assert!(passfile::is_first(&path.with_file_name("other")));
}
