//! The hosts that share a hub, with what each has of it.

use maud::{Markup, html};
use perennial::{HubHost, HubHosts};

use crate::show;

/// Nothing of a hub that is not divided: the card of its host says all.
pub(super) fn card(found: &HubHosts) -> Markup {
    html! {
        @if found.partitions > 1 {
            section.card {
                h2 { "Hosts that share this hub" }
                @if found.free_partitions > 0 {
                    p.warning { "No host has " (found.free_partitions) " of " (found.partitions) " partitions: their instances wait." }
                }
                @if !found.hosts.is_empty() {
                    div.scroll { table {
                        thead { tr { th scope="col" { "Host" } th scope="col" { "Version" } th.num scope="col" { "Partitions" } th.num scope="col" title="How long ago it renewed its lease, which it does each second" { "Lease renewed" } } }
                        tbody { @for host in &found.hosts {
                            tr {
                                td {
                                    (host) @if host.is_this { " " span.chip { "this one" } }
                                    @if let Some(lacks) = &host.lacks { p.warning { "It lacks " (lacks) ": its partitions go to hosts that do not." } }
                                }
                                td { (host.version) }
                                td.num { (host.partitions) }
                                td.num { (renewed(host)) }
                            }
                        } }
                    } }
                }
                @if found.waiting_messages > 0 {
                    p.hint { (show::plural(found.waiting_messages, "message")) " to instances of other partitions under way." }
                }
            }
        }
    }
}

/// How long ago a host renewed its lease.
fn renewed(host: &HubHost) -> Markup {
    let age = host.lease_age.map(|age| age.as_millis());
    let age = age.and_then(|age| u64::try_from(age).ok());
    html! {
        @match age {
            Some(age) => { (show::span(age)) " ago" }
            None => span.none { "–" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(partitions: u16, free: u16) -> String {
        let host = |process: u32, is_this: bool| {
            serde_json::json!({
                "name": "a test", "processId": process, "url": format!("http://10.0.0.{process}"), "version": "9.9", "partitions": 31,
                "leaseAgeMillis": if is_this { 300 } else { 4_200 }, "lacks": if is_this { None } else { Some("memory") }, "isThis": is_this
            })
        };
        let found = serde_json::json!({
            "partitions": partitions, "freePartitions": free, "waitingMessages": 1,
            "hosts": [host(7, false), host(8, true)],
        });
        card(&serde_json::from_value(found).unwrap()).into_string()
    }

    #[test]
    fn hosts_of_a_divided_hub_are_listed_with_what_they_have() {
        assert_eq!(shown(1, 0), "");
        let text = shown(64, 2);
        assert!(text.contains("No host has 2 of 64 partitions"), "{text}");
        assert!(
            text.contains("<td>9.9</td><td class=\"num\">31</td><td class=\"num\">4 s ago</td>"),
            "{text}"
        );
        assert!(text.contains("<td class=\"num\">300 ms ago</td>"), "{text}");
        let lacking =
            "<td>a test (process 7, http://10.0.0.7)<p class=\"warning\">It lacks memory: ";
        assert!(text.contains(lacking), "{text}");
        assert_eq!(text.matches("It lacks").count(), 1, "{text}");
        assert_eq!(text.matches("this one").count(), 1, "{text}");
        assert!(text.contains("1 message"), "{text}");
        assert!(!shown(64, 0).contains("No host has"));
    }
}
