//! Histories in the shape that clients of Durable Functions know.

use expect_test::expect;

use crate::see::Wire;
use crate::{BASE, JSON};

#[tokio::test]
async fn a_history_has_the_shape_that_clients_know() {
    let wire = Wire::new().await;
    wire.ended("Chain", "chain", 1).await;
    wire.ended("RunsFailing", "failed", ()).await;
    wire.ended("ChildSum", "parent", 1).await;
    wire.begun("Wait", "event").await;
    wire.ask(&format!("POST {BASE}/instances/event/suspend?reason=hold"))
        .await;
    wire.ask(&format!("POST {BASE}/instances/event/resume?reason=go"))
        .await;
    wire.ask(&format!(
        "POST {BASE}/instances/event/raiseEvent/Go\n{JSON}\n\n\"now\""
    ))
    .await;
    wire.until_ended("event").await;
    wire.begun("Wait", "over").await;
    wire.client()
        .terminate("over", Some("why not"))
        .await
        .unwrap();
    wire.until_ended("over").await;
    wire.begun_timer("timer").await;
    wire.check(
        &format!("GET {BASE}/instances/chain?showHistory=true"),
        expect![[r#"
            200
            {"name":"Chain",
             "instanceId":"chain",
             "runtimeStatus":"Completed",
             "input":1,
             "customStatus":null,
             "output":0,
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z",
             "historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"2030-01-01T00:00:00.0000000Z","FunctionName":"Chain","Input":"1"},
               {"EventType":"TaskCompleted","Timestamp":"2030-01-01T00:00:00.0000000Z","ScheduledTime":"2030-01-01T00:00:00.0000000Z","FunctionName":"Echo","Input":"0"},
               {"EventType":"ExecutionCompleted","OrchestrationStatus":"Completed","Timestamp":"2030-01-01T00:00:00.0000000Z"}]}
        "#]],
    )
    .await;
    wire.check(
        &format!(
            "GET {BASE}/instances/chain?showHistory=true&showHistoryOutput=true&showInput=false"
        ),
        expect![[r#"
            200
            {"name":"Chain",
             "instanceId":"chain",
             "runtimeStatus":"Completed",
             "input":null,
             "customStatus":null,
             "output":0,
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z",
             "historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"2030-01-01T00:00:00.0000000Z","FunctionName":"Chain"},
               {"EventType":"TaskCompleted","Result":0,"Timestamp":"2030-01-01T00:00:00.0000000Z","ScheduledTime":"2030-01-01T00:00:00.0000000Z","FunctionName":"Echo"},
               {"EventType":"ExecutionCompleted","OrchestrationStatus":"Completed","Result":0,"Timestamp":"2030-01-01T00:00:00.0000000Z"}]}
        "#]],
    )
    .await;
    for id in ["failed", "event", "over", "timer"] {
        let expected = match id {
            "failed" => expect![[r#"
                200
                {"name":"RunsFailing",
                 "instanceId":"failed",
                 "runtimeStatus":"Failed",
                 "input":null,
                 "customStatus":null,
                 "output":"Orchestrator function 'RunsFailing' failed: the card was declined",
                 "createdTime":"2030-01-01T00:00:00Z",
                 "lastUpdatedTime":"2030-01-01T00:00:00Z",
                 "historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"2030-01-01T00:00:00.0000000Z","FunctionName":"RunsFailing","Input":"null"},
                   {"EventType":"TaskFailed","Reason":"the card was declined","FailureDetails":{"ErrorType":"CardDeclined","ErrorMessage":"the card was declined","StackTrace":null,"InnerFailure":null,"IsNonRetriable":true},"Timestamp":"2030-01-01T00:00:00.0000000Z","ScheduledTime":"2030-01-01T00:00:00.0000000Z","FunctionName":"Fails","Input":"null"},
                   {"EventType":"ExecutionCompleted","OrchestrationStatus":"Failed","FailureDetails":{"ErrorType":"CardDeclined","ErrorMessage":"the card was declined","StackTrace":null,"InnerFailure":null,"IsNonRetriable":true},"Timestamp":"2030-01-01T00:00:00.0000000Z"}]}
            "#]],
            "event" => expect![[r#"
                200
                {"name":"Wait",
                 "instanceId":"event",
                 "runtimeStatus":"Completed",
                 "input":null,
                 "customStatus":null,
                 "output":"now",
                 "createdTime":"2030-01-01T00:00:00Z",
                 "lastUpdatedTime":"2030-01-01T00:00:00Z",
                 "historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"2030-01-01T00:00:00.0000000Z","FunctionName":"Wait"},
                   {"EventType":"ExecutionSuspended","Reason":"hold","Timestamp":"2030-01-01T00:00:00.0000000Z"},
                   {"EventType":"ExecutionResumed","Reason":"go","Timestamp":"2030-01-01T00:00:00.0000000Z"},
                   {"EventType":"EventRaised","Name":"Go","Timestamp":"2030-01-01T00:00:00.0000000Z","Input":"\"now\""},
                   {"EventType":"ExecutionCompleted","OrchestrationStatus":"Completed","Result":"now","Timestamp":"2030-01-01T00:00:00.0000000Z"}]}
            "#]],
            "over" => expect![[r#"
                200
                {"name":"Wait",
                 "instanceId":"over",
                 "runtimeStatus":"Terminated",
                 "input":null,
                 "customStatus":null,
                 "output":"why not",
                 "createdTime":"2030-01-01T00:00:00Z",
                 "lastUpdatedTime":"2030-01-01T00:00:00Z",
                 "historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"2030-01-01T00:00:00.0000000Z","FunctionName":"Wait"},
                   {"EventType":"ExecutionTerminated","Timestamp":"2030-01-01T00:00:00.0000000Z","Input":"why not"},
                   {"EventType":"ExecutionCompleted","OrchestrationStatus":"Terminated","Result":"why not","Timestamp":"2030-01-01T00:00:00.0000000Z"}]}
            "#]],
            _ => expect![[r#"
                202
                location: http://localhost:7071/runtime/webhooks/durabletask/instances/timer?showHistory=true&showHistoryOutput=true
                retry-after: 5
                {"name":"Sleep",
                 "instanceId":"timer",
                 "runtimeStatus":"Running",
                 "input":3600000,
                 "customStatus":null,
                 "output":null,
                 "createdTime":"2030-01-01T00:00:00Z",
                 "lastUpdatedTime":"2030-01-01T00:00:00Z",
                 "historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"2030-01-01T00:00:00.0000000Z","FunctionName":"Sleep","Input":"3600000"},
                   {"EventType":"TimerCreated","FireAt":"2030-01-01T01:00:00.0000000Z","Timestamp":"2030-01-01T00:00:00.0000000Z"}]}
            "#]],
        };
        wire.check(
            &format!("GET {BASE}/instances/{id}?showHistory=true&showHistoryOutput=true"),
            expected,
        )
        .await;
    }
    wire.check(
        &format!("GET {BASE}/instances/parent?showHistory=true&showHistoryOutput=true"),
        expect![[r#"
            200
            {"name":"ChildSum",
             "instanceId":"parent",
             "runtimeStatus":"Completed",
             "input":1,
             "customStatus":null,
             "output":0,
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z",
             "historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"2030-01-01T00:00:00.0000000Z","FunctionName":"ChildSum","Input":"1"},
               {"EventType":"SubOrchestrationInstanceCompleted","Result":0,"Timestamp":"2030-01-01T00:00:00.0000000Z","ScheduledTime":"2030-01-01T00:00:00.0000000Z","FunctionName":"Chain","Input":"0"},
               {"EventType":"ExecutionCompleted","OrchestrationStatus":"Completed","Result":0,"Timestamp":"2030-01-01T00:00:00.0000000Z"}]}
        "#]],
    )
    .await;
}

impl Wire {
    async fn begun_timer(&self, id: &str) {
        self.client()
            .start("Sleep")
            .id(id)
            .input(&3_600_000)
            .await
            .unwrap();
        self.client()
            .wait_for_start(id, std::time::Duration::from_secs(30))
            .await
            .unwrap();
    }
}
