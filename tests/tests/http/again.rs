//! Rewinds, restarts and purges.

use expect_test::expect;

use crate::BASE;
use crate::see::Wire;

#[tokio::test]
async fn what_failed_is_rewound_and_what_ended_is_run_again() {
    let wire = Wire::new().await;
    wire.ended("RunsFailing", "failed", ()).await;
    wire.ended("HelloSequence", "done", ()).await;
    wire.begun("Wait", "runs").await;
    wire.check(
        &format!("POST {BASE}/instances/nobody/rewind"),
        expect![[r#"
        404
        "No orchestration with instance ID \"nobody\" found."
    "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/done/rewind?reason=x"),
        expect![[r#"
            412
            "This orchestration has status Completed, but only orchestrations in the \"Failed\" state can be rewound."
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/failed/rewind?reason=fixed"),
        expect![[r#"
            202
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/nobody/restart"),
        expect![[r#"
            400
            "InstanceId does not match a valid orchestration instance."
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/runs/restart?restartWithNewInstanceId=false"),
        expect![[r#"
            409
            "A non-terminal instance with this instance ID already exists."
        "#]],
    )
    .await;
    wire.accepts(
        &format!("POST {BASE}/instances/done/restart?restartWithNewInstanceId=false"),
        "done",
    )
    .await;
    wire.accepts(&format!("POST {BASE}/instances/done/restart"), "<id>")
        .await;
}

#[tokio::test]
async fn what_has_ended_is_purged() {
    let wire = Wire::new().await;
    for id in ["a", "b", "c"] {
        wire.ended("HelloSequence", id, ()).await;
    }
    wire.begun("Wait", "runs").await;
    wire.check(&format!("DELETE {BASE}/instances/runs"), expect![[r#"
        412
        "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID runs has status Running"
    "#]])
        .await;
    wire.check(
        &format!("DELETE {BASE}/instances/a"),
        expect![[r#"
        200
        {"instancesDeleted":1}
    "#]],
    )
    .await;
    wire.check(
        &format!("DELETE {BASE}/instances/a"),
        expect![[r#"
        404
    "#]],
    )
    .await;
    wire.check(
        &format!("DELETE {BASE}/instances"),
        expect![[r#"
        400
        "Please provide value for 'createdTimeFrom' parameter."
    "#]],
    )
    .await;
    let all = "createdTimeFrom=0001-01-01T00:00:00Z";
    let of = |query: &str| format!("DELETE {BASE}/instances/?{query}");
    wire.check(
        &of(&format!("{all}&runtimeStatus=Failed,Canceled")),
        expect![[r#"
            404
        "#]],
    )
    .await;
    wire.check(
        &of(&format!("{all}&runtimeStatus=Canceled")),
        expect![[r#"
        404
    "#]],
    )
    .await;
    wire.check(
        &of(&format!("{all}&createdTimeTo=2029-12-31T23:59:59Z")),
        expect![[r#"
            404
        "#]],
    )
    .await;
    wire.check(
        &of(all),
        expect![[r#"
        200
        {"instancesDeleted":2}
    "#]],
    )
    .await;
    wire.check(
        &of(all),
        expect![[r#"
        404
    "#]],
    )
    .await;
}
