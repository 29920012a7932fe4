//! Which product a server is that speaks the protocol of PostgreSQL, and what is different there.
//!
//! Most are PostgreSQL, run by somebody else: their settings are changed in another place, and some keep what is confirmed in a storage of their
//! own. Only PostgreSQL itself was tested.

/// The oldest version of PostgreSQL that has what hubs need.
pub(super) const VERSION_MIN: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    PostgreSql,
    Aurora,
    Rds,
    CloudSql,
    AlloyDb,
    Azure,
    Neon,
    Supabase,
    Yugabyte,
}

/// Roles that only one product has. Aurora has that of RDS too.
const ROLES: [(&str, Product); 6] = [
    ("rds_superuser", Product::Rds),
    ("cloudsqlsuperuser", Product::CloudSql),
    ("alloydbsuperuser", Product::AlloyDb),
    ("azure_pg_admin", Product::Azure),
    ("neon_superuser", Product::Neon),
    ("supabase_admin", Product::Supabase),
];

/// Why no hub can be in a database, by what its server says of itself when a connection begins; `None` if nothing is known against it.
/// `cockroach` is the parameter that only CockroachDB sends.
pub(super) fn refusal(version: &str, cockroach: Option<&str>) -> Option<String> {
    let instead = format!("use PostgreSQL {VERSION_MIN} or later");
    if let Some(named) = cockroach {
        return Some(format!(
            "the server is {named}, where connections hold no advisory locks and get no notifications, which hosts need; {instead}"
        ));
    }
    let is_yugabyte = version.contains("-YB-");
    let digits = version.split(|c: char| !c.is_ascii_digit()).next();
    match digits.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major < VERSION_MIN && is_yugabyte => Some(format!(
            "the server is YugabyteDB ({version}), a version of it that has no advisory locks, which hosts need; use one that is based on \
             PostgreSQL 15, or {instead}"
        )),
        Some(major) if major < VERSION_MIN => Some(format!(
            "the server is PostgreSQL {version}, which lacks what hubs need; {instead}"
        )),
        _ => None,
    }
}

impl Product {
    /// What is asked to know it: what the server says of itself, whether it has a function of Aurora, and the roles that it has of these.
    pub(super) const ASKS: &str =
        "SELECT version(), to_regproc('pg_catalog.aurora_version') IS NOT NULL,
         ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1))";

    /// The roles that are asked for.
    pub(super) fn roles() -> Vec<&'static str> {
        ROLES.iter().map(|(role, _)| *role).collect()
    }

    /// By the answers.
    pub(super) fn named(version: &str, is_aurora: bool, roles: &[String]) -> Self {
        if version.contains("-YB-") {
            return Self::Yugabyte;
        }
        if is_aurora {
            return Self::Aurora;
        }
        let known = ROLES
            .iter()
            .find(|(role, _)| roles.iter().any(|has| has == role));
        known.map_or(Self::PostgreSql, |(_, product)| *product)
    }

    /// Its name, except of PostgreSQL itself.
    pub(super) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::PostgreSql => return None,
            Self::Aurora => "Amazon Aurora",
            Self::Rds => "Amazon RDS",
            Self::CloudSql => "Google Cloud SQL",
            Self::AlloyDb => "Google AlloyDB",
            Self::Azure => "Azure Database",
            Self::Neon => "Neon",
            Self::Supabase => "Supabase",
            Self::Yugabyte => "YugabyteDB",
        })
    }

    /// Whether its storage keeps what is confirmed whatever `fsync` and `full_page_writes` say: it writes no data files as PostgreSQL does.
    pub(super) fn has_own_storage(self) -> bool {
        matches!(
            self,
            Self::Aurora | Self::AlloyDb | Self::Neon | Self::Yugabyte
        )
    }

    /// How a setting of the whole server is changed.
    pub(super) fn mend(self, name: &str, value: &str) -> String {
        match self {
            Self::PostgreSql => {
                format!("ALTER SYSTEM SET {name} = {value}; SELECT pg_reload_conf();")
            }
            Self::Aurora => format!(
                "set {name} to {value} in the parameter group of the DB cluster, or of the instance if it is there"
            ),
            Self::Rds => format!("set {name} to {value} in the parameter group of the instance"),
            Self::CloudSql => format!(
                "gcloud sql instances patch INSTANCE --database-flags={name}={value} (which replaces all flags: name the others too)"
            ),
            Self::AlloyDb => format!(
                "gcloud alloydb instances update INSTANCE --cluster=CLUSTER --region=REGION --database-flags={name}={value} (which replaces all \
                 flags: name the others too)"
            ),
            Self::Azure => format!(
                "az postgres flexible-server parameter set --resource-group GROUP --server-name SERVER --name {name} --value {value}"
            ),
            Self::Supabase => format!(
                "supabase postgres-config update --config {name}={value}, or ask Supabase's support where that does not take it"
            ),
            Self::Neon => format!("ask Neon's support to set {name} to {value}"),
            Self::Yugabyte => {
                format!("set {name} to {value} by the flag ysql_pg_conf_csv of the YB-TServers")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_what_hosts_need_is_refused_by_what_it_says_first() {
        assert_eq!(refusal("15.18 (Debian 15.18-0+deb12u1)", None), None);
        assert_eq!(refusal("18beta1", None), None);
        assert_eq!(refusal("15.12-YB-2025.1.0.0-b1", None), None);
        // A server that says nothing that can be read may be anything.
        assert_eq!(refusal("", None), None);
        let cockroach = refusal("13.0.0", Some("CockroachDB CCL v24.1.0")).unwrap();
        assert!(cockroach.contains("CockroachDB CCL v24.1.0"), "{cockroach}");
        let old = refusal("11.2-YB-2.20.1.0-b0", None).unwrap();
        assert!(old.contains("YugabyteDB"), "{old}");
        let redshift = refusal("8.0.2", None).unwrap();
        assert!(redshift.contains("use PostgreSQL 12"), "{redshift}");
    }

    #[test]
    fn products_are_known_by_what_only_they_have() {
        let named = |version: &str, is_aurora, role: &str| {
            Product::named(version, is_aurora, &[role.to_owned()])
        };
        let plain = "PostgreSQL 15.4 on x86_64-pc-linux-gnu";
        assert_eq!(named(plain, false, "postgres"), Product::PostgreSql);
        assert_eq!(named(plain, true, "rds_superuser"), Product::Aurora);
        assert_eq!(named(plain, false, "rds_superuser"), Product::Rds);
        let yugabyte = "PostgreSQL 15.12-YB-2025.1.0.0-b1 on x86_64-pc-linux-gnu";
        assert_eq!(named(yugabyte, false, "postgres"), Product::Yugabyte);
    }
}
