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

#[tokio::test]
async fn what_a_saga_undid_is_forgotten_only_if_that_is_asked_for() {
    let wire = Wire::new().await;
    let saga = perennial_tests::module("saga-trip");
    wire.client().deploy(saga).await.unwrap();
    let trip = serde_json::json!({ "city": "L", "failing": ["BookCar"] });
    wire.ended("BookTrip", "trip", trip).await;
    // The route of Durable Functions has no option: it names the one that has.
    let refused = wire
        .ask(&format!("POST {BASE}/instances/trip/rewind?reason=fixed"))
        .await;
    assert_eq!(refused.status, 409);
    for said in ["CancelHotel", "/api/v1/instances/", "forgetCompleted"] {
        assert!(refused.body.contains(said), "{}", refused.body);
    }
    let refused = wire.ask("POST /api/v1/instances/trip/rewind").await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (409, &"wouldForget".into()),
        "{}",
        refused.body
    );
    let done = wire
        .ask("POST /api/v1/instances/trip/rewind\ncontent-type: application/json\n\n{\"forgetCompleted\":true}")
        .await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.json()["dropped"].as_array().map(Vec::len), Some(2));
}
