//! What the documentation of Azure Durable Functions promises about managing instances, and the tests that keep it here.
//!
//! The promises are those of three articles, "Manage orchestration instances" (2026), "Manage instances in Durable Functions in Azure"
//! (2024) and "Manage instances in Durable Functions" (2018), in their order. Where they contradict each other the newest counts.

use crate::sources;

/// A promise, and the tests that fail if it is broken.
const PROMISES: &[(&str, &[&str])] = &[
    // Start instances.
    (
        "a start takes a name, an input and an id",
        &[
            "article_start_instances",
            "durable_starts_and_shows_instances_as_func_does",
        ],
    ),
    (
        "without an id it makes a random one",
        &["article_start_instances"],
    ),
    (
        "it writes the start durably and returns; nothing runs without a host",
        &["without_a_host_commands_are_kept_and_the_user_is_told"],
    ),
    (
        "a start can be waited for",
        &[
            "article_start_instances",
            "beside_a_host_an_instance_lives_its_whole_life",
        ],
    ),
    (
        "an id in use is refused",
        &["a_start_with_an_id_in_use_is_refused_and_leaves_nothing"],
    ),
    (
        "an id that has ended is used again",
        &["a_start_with_an_ended_id_replaces_what_was_there"],
    ),
    (
        "the input may be a file",
        &[
            "durable_starts_and_shows_instances_as_func_does",
            "input_comes_from_stdin_and_files_too",
        ],
    ),
    (
        "the commands work from any directory, with the task hub and the place of its storage named",
        &["durable_finds_its_data_directory_in_the_variable_that_is_named"],
    ),
    // Query instances.
    (
        "a status has name, id, times, input, custom status, output and runtime status",
        &[
            "article_query_instances",
            "run_deploys_starts_waits_and_prints_the_result",
        ],
    ),
    (
        "the history is shown where it is asked for",
        &["article_query_instances"],
    ),
    (
        "the input is shown where it is asked for",
        &[
            "article_query_instances",
            "durable_starts_and_shows_instances_as_func_does",
        ],
    ),
    (
        "the output of a failed instance tells its failure",
        &["a_failure_is_told_with_its_kind_and_exit_code"],
    ),
    (
        "the output of a suspended or terminated instance is the reason",
        &[
            "article_suspend_and_resume_instances",
            "article_terminate_instances",
        ],
    ),
    (
        "ContinuedAsNew is transient, and never an end",
        &["continue_as_new_starts_the_next_execution_on_the_newest_module"],
    ),
    (
        "an instance is Completed when everything that it scheduled has ended",
        &["an_instance_that_returned_waits_for_its_tasks_and_then_completes"],
    ),
    (
        "there is no status of what is not there",
        &[
            "article_query_instances",
            "durable_raises_events_and_terminates_as_func_does",
        ],
    ),
    // Query all instances, with filters.
    (
        "all instances are listed",
        &["article_query_all_instances_and_with_filters"],
    ),
    (
        "filters are times of creation and statuses",
        &[
            "article_query_all_instances_and_with_filters",
            "each_filter_finds_what_it_should",
        ],
    ),
    (
        "a list comes in pages, with a token for the next",
        &[
            "durable_lists_in_pages_with_a_token_to_go_on",
            "pages_stay_valid_while_instances_come_and_go",
        ],
    ),
    // Terminate instances.
    (
        "terminate ends an instance, and its reason is in the status",
        &["article_terminate_instances"],
    ),
    (
        "it is queued among the other operations of the instance",
        &["terminate_comes_before_everything_and_the_first_reason_wins"],
    ),
    (
        "each operation is done or refused as the status of the instance demands",
        &[
            "each_cell_of_the_table_holds_through_the_command_line",
            "each_cell_of_the_table_holds_through_the_library",
        ],
    ),
    (
        "it does not reach activities and children",
        &["a_termination_that_is_not_recursive_touches_nothing_below"],
    ),
    // Suspend and resume instances.
    (
        "suspend holds an instance, resume lets it go on, both with a reason",
        &["article_suspend_and_resume_instances"],
    ),
    (
        "nothing that arrives meanwhile is lost",
        &["a_suspended_instance_holds_everything_until_it_is_resumed"],
    ),
    // Send events to instances.
    (
        "an event has an instance, a name and data",
        &[
            "article_send_events_to_instances_and_wait_for_completion",
            "durable_raises_events_and_terminates_as_func_does",
        ],
    ),
    (
        "an event to nobody is discarded",
        &["article_send_events_to_instances_and_wait_for_completion"],
    ),
    (
        "an event that nobody waits for yet is kept",
        &[
            "events_are_kept_until_awaited_first_in_first_out_and_in_any_case",
            "external_events_come_in_order_whether_or_not_somebody_waits",
        ],
    ),
    // Wait for orchestration completion.
    (
        "a wait gives the output",
        &["article_send_events_to_instances_and_wait_for_completion"],
    ),
    (
        "or, when the time is up, the state",
        &["article_send_events_to_instances_and_wait_for_completion"],
    ),
    // Retrieve HTTP management webhook URLs.
    (
        "the payload of an instance's addresses has these fields",
        &[
            "the_payload_is_the_documented_one",
            "article_retrieve_http_management_webhook_urls",
        ],
    ),
    // Rewind instances.
    (
        "rewind puts a failed instance back to before its failure, and runs again what failed",
        &["article_rewind_instances"],
    ),
    (
        "what succeeded is not run again",
        &["a_rewound_execution_goes_on_lawfully_and_repeats_no_success_that_is_kept"],
    ),
    (
        "only what has failed can be rewound",
        &["article_rewind_instances", "what_has_not_failed_is_not_cut"],
    ),
    (
        "children that failed are rewound first",
        &["failed_children_are_rewound_first"],
    ),
    (
        "the article's rewind stops at durable timers; this one does not",
        &["retry_policies_and_timers_go_on_after_a_rewind"],
    ),
    // Restart instances.
    (
        "restart runs an instance again, under its id or a new one",
        &["article_restart_instances"],
    ),
    // Purge instance history.
    (
        "purge deletes one instance, or those that fit a filter, and says how many",
        &[
            "article_purge_instance_history",
            "durable_purges_and_deletes_a_task_hub_as_func_does",
        ],
    ),
    (
        "only what is Completed, Failed or Terminated is purged",
        &["article_purge_instance_history"],
    ),
    // Delete a task hub.
    (
        "a task hub is deleted with everything in it",
        &["durable_purges_and_deletes_a_task_hub_as_func_does"],
    ),
];

/// Names of the tests of a file: functions below `#[test]`, `#[tokio::test]` and the like.
fn tests_of(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("async fn ").or(line.strip_prefix("fn ")) {
            if is_test {
                names.extend(rest.split('(').next());
            }
            is_test = false;
        }
    }
    names
}

#[test]
fn each_promise_is_kept_by_tests_that_exist() {
    let files: Vec<(String, String)> = ["host", "guest-sdk", "tests"]
        .into_iter()
        .flat_map(sources)
        .collect();
    let tests: Vec<&str> = files.iter().flat_map(|(_, text)| tests_of(text)).collect();
    for (promise, keepers) in PROMISES {
        assert!(!keepers.is_empty(), "nothing keeps: {promise}");
        for keeper in *keepers {
            assert!(
                tests.contains(keeper),
                "{keeper}, which is to keep \"{promise}\", is no test"
            );
        }
    }
}
