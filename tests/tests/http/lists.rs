//! Lists, their pages and filters.

use expect_test::expect;

use crate::BASE;
use crate::see::{Answer, Wire};

#[tokio::test]
async fn a_list_has_pages_and_filters() {
    if perennial_tests::postgres::skips(
        "instances of several partitions that begin in the same millisecond have another order",
    ) {
        return;
    }
    let wire = Wire::new().await;
    for id in ["a1", "a2", "b1"] {
        wire.ended("Chain", id, 1).await;
    }
    wire.begun("Wait", "a3").await;
    wire.check(
        &format!(
            "GET {BASE}/instances?instanceIdPrefix=a&runtimeStatus=Completed,Failed&showInput=false"
        ),
        expect![[r#"
            200
            [{"name":"Chain","instanceId":"a2","runtimeStatus":"Completed","input":null,"customStatus":null,"output":0,"createdTime":"2030-01-01T00:00:00Z","lastUpdatedTime":"2030-01-01T00:00:00Z"},
             {"name":"Chain","instanceId":"a1","runtimeStatus":"Completed","input":null,"customStatus":null,"output":0,"createdTime":"2030-01-01T00:00:00Z","lastUpdatedTime":"2030-01-01T00:00:00Z"}]
        "#]],
    )
    .await;
    let first = wire.ask(&format!("GET {BASE}/instances/?top=3")).await;
    let token = first.header("x-ms-continuation-token").unwrap().to_owned();
    let rest = wire
        .ask(&format!(
            "GET {BASE}/instances?top=3\nx-ms-continuation-token: {token}"
        ))
        .await;
    let ids = |answer: &Answer| -> Vec<String> {
        let instances = answer.json();
        let ids = instances.as_array().unwrap().iter();
        ids.map(|i| i["instanceId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (ids(&first), ids(&rest)),
        (
            vec!["a3".into(), "b1".into(), "a2".into()],
            vec!["a1".into()]
        )
    );
    assert_eq!(rest.header("x-ms-continuation-token"), None);
    let of = |query: &str| format!("GET {BASE}/instances?{query}");
    wire.check(
        &of("runtimeStatus=Canceled,ContinuedAsNew"),
        expect![[r#"
        200
        []
    "#]],
    )
    .await;
    wire.check(
        &of("createdTimeFrom=2030-01-01T00:00:01Z"),
        expect![[r#"
        200
        []
    "#]],
    )
    .await;
    wire.check(
        &of("createdTimeFrom=1-01-01T00:00:00.000000Z&createdTimeTo=2029-12-31T23:59:59Z"),
        expect![[r#"
            200
            []
        "#]],
    )
    .await;
    wire.check(&of("runtimeStatus=Fine"), expect![[r#"
        400
        {"Message":"One or more of the arguments submitted is incorrect",
         "ExceptionMessage":"the parameter 'runtimeStatus' must be one of Pending, Running, Suspended, Completed, Failed, Terminated, not \"Fine\"",
         "ExceptionType":"System.ArgumentException",
         "StackTrace":""}
    "#]]).await;
    wire.check(
        &of("top=some"),
        expect![[r#"
        400
        {"Message":"One or more of the arguments submitted is incorrect",
         "ExceptionMessage":"the parameter 'top' must be a number, not \"some\"",
         "ExceptionType":"System.ArgumentException",
         "StackTrace":""}
    "#]],
    )
    .await;
    wire.check(
        &format!("{}\nx-ms-continuation-token: nonsense", of("top=1")),
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"this continuation token does not belong to this list: use it with the filters and the order that it came from",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
}
