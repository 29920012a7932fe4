//! What the activities of a module may touch: shown, and changed by a form.
//!
//! Invariant: the value of an environment variable is never part of a page: it can be replaced or removed, not read.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use perennial::http::{Permission, Visitor};
use perennial::{DirGrant, Grants, ModuleInfo};

use super::one;
use crate::admit::Path;
use crate::change::{self, Sent};
use crate::fields::Fields;
use crate::page::Page;
use crate::refused::{Refused, Shown};
use crate::visit::SIGN_IN;

/// Grants that a page lists of each kind.
const LISTED: usize = 200;

/// The grants as a list of facts.
pub(crate) fn facts(grants: &Grants) -> Markup {
    if *grants == Grants::default() {
        return html! { p.none { "None: its activities see no file, no variable and no network of this host." } };
    }
    html! {
        dl.facts {
            @if !grants.dirs.is_empty() {
                dt { "Directories" }
                dd { ul.plain { @for dir in grants.dirs.iter().take(LISTED) { li { (dir_text(dir)) } } } }
            }
            @if !grants.env.is_empty() {
                dt { "Variables" }
                dd { @for (name, _) in grants.env.iter().take(LISTED) { code.chip { (name) } " " } }
            }
            @if !grants.http_hosts.is_empty() {
                dt { "HTTP hosts" }
                dd { @for host in grants.http_hosts.iter().take(LISTED) { code.chip { (host) } " " } }
            }
        }
    }
}

fn dir_text(dir: &DirGrant) -> Markup {
    let how = if dir.writable {
        "may be changed"
    } else {
        "read-only"
    };
    html! { code { (dir.guest) } " is " code { (dir.host.display()) } ", " (how) }
}

/// The form that changes them, for whom it would not be refused.
pub(crate) fn form(page: &Page, module: &ModuleInfo) -> Markup {
    if !page.may_grant() {
        return html! {
            p.hint {
                "To change them needs an admin key, also on the host's own machine: "
                a href=(page.path(SIGN_IN)) { "sign in" } " with one, or use the command " code { "perennial grants NAME" } " there."
            }
        };
    }
    let grants = &module.grants;
    html! {
        details #change-grants {
            summary { "Change the grants" }
            form method="post" action=(one::path(page, &module.name, "/grants")) {
                (page.token_field())
                input type="hidden" name="digest" value=(module.digest);
                p.hint {
                    "A change holds from the next attempt of each activity on, for live instances too. "
                    "Grants belong to the name of the module: later deployments keep them."
                }
                @if *grants != Grants::default() { (removals(grants)) }
                (additions())
                button.primary type="submit" { "Change the grants" }
            }
        }
    }
}

fn removals(grants: &Grants) -> Markup {
    let tick = |name: &str, value: &str, text: Markup| {
        html! {
            li { label.inline { input type="checkbox" name=(name) value=(value); span { (text) } } }
        }
    };
    html! {
        fieldset {
            legend { "Take away" }
            ul.plain {
                @for dir in grants.dirs.iter().take(LISTED) { (tick("no-dir", &dir.guest, dir_text(dir))) }
                @for (name, _) in grants.env.iter().take(LISTED) { (tick("no-env", name, html! { "variable " code { (name) } })) }
                @for host in grants.http_hosts.iter().take(LISTED) { (tick("no-host", host, html! { "HTTP host " code { (host) } })) }
            }
        }
    }
}

fn additions() -> Markup {
    html! {
        fieldset {
            legend { "Add or replace" }
            div.grid {
                div {
                    label for="dir-host" { "Directory of this host" }
                    input #dir-host name="dir-host" autocomplete="off" spellcheck="false" placeholder="/srv/reports";
                    label for="dir-guest" { "Path for the activities" }
                    input #dir-guest name="dir-guest" autocomplete="off" spellcheck="false" placeholder="/data";
                    label.inline { input type="checkbox" name="dir-writable" value="yes"; "Files in it may be made, changed and removed" }
                }
                div {
                    label for="env-name" { "Name of a variable" }
                    input #env-name name="env-name" autocomplete="off" spellcheck="false" placeholder="API_KEY";
                    label for="env-value" { "Its value" }
                    input #env-value name="env-value" type="password" autocomplete="new-password" aria-describedby="env-hint";
                    p.hint #env-hint { "It is not shown again." }
                }
                div {
                    label for="http-host" { "HTTP host" }
                    input #http-host name="http-host" autocomplete="off" spellcheck="false" placeholder="api.example.com"
                        aria-describedby="host-hint";
                    p.hint #host-hint { "For the activity " code { "http" } ": HOST, HOST:PORT, or *.DOMAIN" }
                }
            }
        }
    }
}

/// What a form asks for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    /// Paths, variables and hosts to take away.
    fewer: Fewer,
    more: Grants,
}

#[derive(Debug, Default, PartialEq)]
struct Fewer {
    dirs: Vec<String>,
    env: Vec<String>,
    hosts: Vec<String>,
}

impl Fewer {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of(&self, mut grants: Grants) -> Grants {
        grants.dirs.retain(|dir| !self.dirs.contains(&dir.guest));
        grants.env.retain(|(name, _)| !self.env.contains(name));
        grants.http_hosts.retain(|host| !self.hosts.contains(host));
        grants
    }
}

fn wanted(fields: &Fields) -> Result<Wanted, Refused> {
    // As they are: spaces around a name are part of it.
    let all = |name: &str| -> Vec<String> {
        let found = fields.pairs().filter(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_owned()).collect()
    };
    let mut more = Grants::new();
    match (fields.text("dir-host"), fields.text("dir-guest")) {
        (None, None) => {}
        (Some(host), Some(guest)) => {
            let dir = DirGrant::new(host, guest);
            let dir = if fields.is_set("dir-writable") {
                dir.writable()
            } else {
                dir
            };
            more = more.dir(dir);
        }
        _ => {
            return Err(Refused::invalid(
                "A directory needs its path on this host and its path for the activities.",
            ));
        }
    }
    let value = all("env-value").into_iter().next().unwrap_or_default();
    match fields.text("env-name") {
        Some(name) => more = more.env(name, value),
        None if value.is_empty() => {}
        None => {
            return Err(Refused::invalid(
                "The value of a variable was given, and no name.",
            ));
        }
    }
    if let Some(host) = fields.text("http-host") {
        more = more.http_host(host);
    }
    let fewer = Fewer {
        dirs: all("no-dir"),
        env: all("no-env"),
        hosts: all("no-host"),
    };
    if fewer.is_empty() && more == Grants::default() {
        return Err(Refused::invalid(
            "Fill in what is to be granted, or tick what is to be taken away.",
        ));
    }
    Ok(Wanted { fewer, more })
}

pub(crate) async fn change(
    page: Page,
    Path((_, name)): Path<(String, String)>,
    Sent(fields): Sent,
) -> Shown {
    let to = one::path(&page, &name, "");
    if !page.may_grant() {
        let why = Visitor::refusal(Permission::Grant);
        return Err(Refused::new(StatusCode::FORBIDDEN, why).on(&page));
    }
    one::expect(&page, &name, &fields).await?;
    Ok(match changed(&page, &name, &fields).await {
        Ok(()) => change::done(&to, "The grants were changed."),
        Err(refused) if refused.status == StatusCode::NOT_FOUND => return Err(refused.on(&page)),
        Err(refused) => back(&to, &refused),
    })
}

fn back(to: &str, refused: &Refused) -> Response {
    change::refused(to, refused)
}

async fn changed(page: &Page, name: &str, fields: &Fields) -> Result<(), Refused> {
    let Wanted { fewer, more } = wanted(fields)?;
    if fewer.is_empty() {
        return Ok(page.client.grant_more(name, &more).await?);
    }
    let module = one::find(page, name).await?;
    let rest = fewer.of(module.grants);
    // A remote host tells no values: to send back what it told would make them empty.
    if !rest.env.is_empty() && rest.env.iter().all(|(_, value)| value.is_empty()) {
        return Err(Refused::invalid(
            "The values of the other variables are not known here, so they could not be kept. \
             Use the command perennial grants where the hub is.",
        ));
    }
    Ok(page.client.grant(name, &rest.and(more)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Wanted, String> {
        wanted(&Fields::parse(text.as_bytes())).map_err(|refused| refused.message)
    }

    #[test]
    fn a_form_adds_and_takes_away() {
        let found = of(
            "dir-host=%2Fsrv&dir-guest=%2Fdata&dir-writable=yes&env-name=KEY&env-value=+s%3D1+\
             &http-host=a.b&no-dir=%2Fold&no-env=X&no-host=c.d",
        );
        let more = Grants::new()
            .dir(DirGrant::new("/srv", "/data").writable())
            .env("KEY", " s=1 ")
            .http_host("a.b");
        let one = |text: &str| vec![text.to_owned()];
        let fewer = Fewer {
            dirs: one("/old"),
            env: one("X"),
            hosts: one("c.d"),
        };
        let before = Grants::new()
            .dir(DirGrant::new("/a", "/old"))
            .env("X", "1")
            .env("Y", "2")
            .http_host("c.d");
        assert_eq!(fewer.of(before), Grants::new().env("Y", "2"));
        assert_eq!(found, Ok(Wanted { fewer, more }));
    }

    #[test]
    fn half_a_grant_is_refused() {
        for (text, said) in [
            ("", "Fill in"),
            ("dir-host=%2Fsrv", "A directory needs"),
            ("dir-guest=%2Fdata", "A directory needs"),
            ("env-value=secret", "no name"),
            ("dir-host=&env-name=+", "Fill in"),
        ] {
            let problem = of(text).unwrap_err();
            assert!(
                problem.contains(said) && !problem.contains("secret"),
                "{problem}"
            );
        }
    }

    #[test]
    fn no_value_of_a_variable_is_shown() {
        let grants = Grants::new().env("<NAME>", "s3cret").http_host("a.b");
        for shown in [facts(&grants), removals(&grants)] {
            let shown = shown.into_string();
            assert!(
                shown.contains("&lt;NAME&gt;") && !shown.contains("s3cret"),
                "{shown}"
            );
        }
    }
}
