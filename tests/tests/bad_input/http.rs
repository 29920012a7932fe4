//! Over HTTP: both APIs.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use perennial::http::Api;
use tower::ServiceExt;

use crate::{Hub, judge, shown};

/// What it is; method, path and headers; the body; the status and what the answer says.
type Case = (&'static str, String, Vec<u8>, u16, &'static str);

const COMPAT: &str = "/runtime/webhooks/durabletask";
const NATIVE: &str = "/api/v1";

fn case(
    what: &'static str,
    head: String,
    body: impl Into<Vec<u8>>,
    status: u16,
    says: &'static str,
) -> Case {
    (what, head, body.into(), status, says)
}

fn long(n: usize) -> String {
    "x".repeat(n)
}

#[rustfmt::skip]
fn native(foreign: &str) -> Vec<Case> {
    let start = || format!("POST {NATIVE}/instances");
    let get = |path: &str| format!("GET {NATIVE}/{path}");
    let post = |path: &str| format!("POST {NATIVE}/{path}");
    let put = |path: &str| format!("PUT {NATIVE}/{path}");
    vec![
        case("half an object", start(), r#"{"orchestration": "#, 400, "EOF while parsing"),
        case("a list for an object", start(), "[1]", 400, "not a list"),
        case("a number for a name", start(), r#"{"orchestration":7}"#, 400, "invalid type: integer"),
        case("an unknown field", start(), r#"{"orchestration":"Wait","colour":1}"#, 400, "unknown field `colour`"),
        case("a field twice", start(), r#"{"orchestration":"Wait","id":"a","id":"b"}"#, 400, "duplicate field `id`"),
        case("an id that is a number", start(), r#"{"orchestration":"Wait","id":7}"#, 400, "invalid type"),
        case("an empty id", start(), r#"{"orchestration":"Wait","id":""}"#, 400, "must not be empty"),
        case("an id with a slash", start(), r#"{"orchestration":"Wait","id":"../../etc/passwd"}"#, 400, "must not contain '/'"),
        case("an id with a control character", start(), r#"{"orchestration":"Wait","id":"a\u0000b"}"#, 400, "must not contain '\\\\0'"),
        case("an id with a newline", start(), r#"{"orchestration":"Wait","id":"a\nb"}"#, 400, "must not contain '\\\\n'"),
        case("an id of 257 characters", start(), format!(r#"{{"orchestration":"Wait","id":"{}"}}"#, long(257)), 400, "256"),
        case("an id like an entity's", start(), r#"{"orchestration":"Wait","id":"@counter@a"}"#, 400, "must not start with '@'"),
        case("half a surrogate pair", start(), r#"{"orchestration":"Wait","id":"\ud800"}"#, 400, "not what was expected"),
        case("bytes that are no UTF-8", start(), b"{\"orchestration\":\"W\xff\xfe\"}".to_vec(), 400, "not what was expected"),
        case("SQL for a name", start(), r#"{"orchestration":"Wait'; DROP TABLE instance; --"}"#, 400, "there is no orchestration"),
        case("an orchestration of no name", start(), r#"{"orchestration":""}"#, 400, "there is no orchestration"),
        case("a version that is not there", start(), r#"{"orchestration":"Wait","version":"' OR 1=1"}"#, 400, "there is no version"),
        case("a reuse that is none", start(), r#"{"orchestration":"Wait","reuse":"always"}"#, 400, "unknown variant"),
        case("tags that are a list", start(), r#"{"orchestration":"Wait","tags":[1]}"#, 400, "invalid type"),
        case("an input over the limit", start(), format!(r#"{{"orchestration":"Wait","input":"{}"}}"#, long(1_100_000)), 413, "at most 1048576 are allowed"),
        case("a body over the limit", start(), long(5 << 20), 413, "too large"),
        case("a very deep body", start(), format!(r#"{{"orchestration":"Wait","input":{}"#, "[".repeat(200_000)), 400, "EOF while parsing a list"),
        case("a nameless tag", start(), r#"{"orchestration":"Wait","tags":{"":"x"}}"#, 400, "a tag"),
        case("a tag of 100 KB", start(), format!(r#"{{"orchestration":"Wait","tags":{{"a":"{}"}}}}"#, long(100_000)), 400, "a tag"),
        case("more tags than anybody has", start(), format!(r#"{{"orchestration":"Wait","tags":{{{}}}}}"#, (0..1_000).map(|i| format!("\"t{i}\":\"\"")).collect::<Vec<_>>().join(",")), 400, "tags"),
        case("nobody's instance", get("instances/nobody"), "", 404, "there is no instance"),
        case("a path for an instance", get("instances/..%2F..%2Fetc%2Fpasswd"), "", 404, "there is no instance"),
        case("SQL for an instance", get("instances/x'%20OR%20'1'='1"), "", 404, "there is no instance"),
        case("an instance that is no UTF-8", get("instances/%FF%FE"), "", 400, "not UTF-8"),
        case("a limit below 0", get("instances?limit=-1"), "", 400, "'limit' must be a number"),
        case("a limit beyond numbers", get("instances?limit=99999999999999999999"), "", 400, "'limit' must be a number"),
        case("a status that is none", get("instances?status=Exploded"), "", 400, "must be one of Pending"),
        case("a day that is none", get("instances?createdFrom=2026-02-30"), "", 400, "must be a time"),
        case("a year beyond all years", get("instances?createdTo=999999-01-01T00:00:00Z"), "", 400, "must be a time"),
        case("a flag that is neither", get("instances?input=maybe"), "", 400, "must be true or false"),
        case("a token of another list", get(&format!("instances?after={foreign}")), "", 400, "does not belong to this list"),
        case("a token that is none", get("instances?after=%00%00"), "", 400, "does not belong to this list"),
        case("a tag without a value", get("instances?tag=team"), "", 400, "KEY=VALUE"),
        case("a negative wait", get("instances/waits/wait?timeout=-1"), "", 400, "number of seconds"),
        case("a wait for what never comes", get("instances/waits/wait?for=ever"), "", 400, "completion, start or change"),
        case("an event that is no JSON", post("instances/waits/events/Go"), "{", 400, "not valid JSON"),
        case("an event with two values", post("instances/waits/events/Go"), "1 2", 400, "trailing characters"),
        case("an event of no name", post("instances/waits/events/"), "1", 404, "there is no POST"),
        case("an event of a long name", post(&format!("instances/waits/events/{}", long(257))), "1", 400, "at most 256"),
        case("an event for nobody", post("instances/nobody/events/Go"), "1", 404, "there is no instance"),
        case("an event for one that has ended", post("instances/done/events/Go"), "1", 409, "it has ended"),
        case("a reason that is a list", post("instances/waits/suspend"), r#"{"reason":[1]}"#, 400, "invalid type"),
        case("a reason of 4 MB", post("instances/waits/suspend"), format!(r#"{{"reason":"{}"}}"#, long(4_000_000)), 413, "the reason has"),
        case("to terminate what has ended", post("instances/done/terminate"), "", 409, "it has ended"),
        case("to rewind what did not fail", post("instances/done/rewind"), "", 409, "done"),
        case("to purge what lives", format!("DELETE {NATIVE}/instances/waits"), "", 409, "waits"),
        case("a module that is a text", put("modules/m"), "# Read me", 400, "not a WebAssembly file"),
        case("a module that is nothing", put("modules/m"), "", 400, "it is empty"),
        case("a module cut short", put("modules/m"), b"\0asm\x0d\0\x01\0\x07".to_vec(), 400, "damaged or truncated"),
        case("a module of the future", put("modules/m"), b"\0asm\x63\0\0\0".to_vec(), 400, "unknown WebAssembly format"),
        case("a core module", put("modules/m"), b"\0asm\x01\0\0\0".to_vec(), 400, "without a component type"),
        case("a component that is no module", put("modules/m"), b"\0asm\x0d\0\x01\0".to_vec(), 400, "exports neither"),
        case("grants without a key", put("modules/nothing/grants"), "{}", 403, "needs an admin key"),
        case("another hub", format!("GET {NATIVE}/instances?taskHub=other"), "", 404, "is not served here"),
        case("a path for a hub", format!("GET {NATIVE}/instances?taskHub=../../etc"), "", 404, "is not served here"),
        case("a route that is none", get("everything"), "", 404, "there is no GET"),
        case("a method that is none", format!("BREW {NATIVE}/instances"), "", 405, "there is no BREW"),
    ]
}

#[rustfmt::skip]
fn compat(foreign: &str) -> Vec<Case> {
    let start = |rest: &str| format!("POST {COMPAT}/orchestrators/{rest}");
    let get = |path: &str| format!("GET {COMPAT}/{path}");
    let post = |path: &str| format!("POST {COMPAT}/{path}");
    let json = "content-type: application/json";
    vec![
        case("half an input", format!("{}\n{json}", start("Wait")), "{\"a\":", 400, "EOF while parsing"),
        case("an id with a slash", start("Wait/a%2Fb"), "", 400, "must not contain '/'"),
        case("an id with a null", start("Wait/a%00b"), "", 400, "must not contain"),
        case("an id of 300 characters", start(&format!("Wait/{}", long(300))), "", 400, "256"),
        case("an unknown orchestration", start("Robert');DROP%20TABLE%20instance;--"), "", 400, "there is no orchestration"),
        case("a body over the limit", start("Wait"), long(5 << 20), 413, ""),
        case("an unknown status", get("instances?runtimeStatus=Exploded"), "", 400, "runtimeStatus"),
        case("a time that is none", get("instances?createdTimeFrom=yesterday"), "", 400, "createdTimeFrom"),
        case("a top that is none", get("instances?top=many"), "", 400, "'top'"),
        case("a token of another list", format!("{}\nx-ms-continuation-token: {foreign}", get("instances?top=1")), "", 400, "continuation token"),
        case("an event that is no JSON", format!("{}\n{json}", post("instances/waits/raiseEvent/Go")), "{\"", 400, "JSON"),
        case("an event that is no JSON content", format!("{}\ncontent-type: text/plain", post("instances/waits/raiseEvent/Go")), "1", 400, "application/json"),
        case("an event for nobody", format!("{}\n{json}", post("instances/nobody/raiseEvent/Go")), "1", 404, ""),
        case("an event for one that has ended", format!("{}\n{json}", post("instances/done/raiseEvent/Go")), "1", 410, ""),
        case("to rewind what did not fail", post("instances/waits/rewind"), "", 412, ""),
        case("to purge everything without saying which", format!("DELETE {COMPAT}/instances"), "", 400, "createdTimeFrom"),
        case("to purge what lives", format!("DELETE {COMPAT}/instances/waits"), "", 412, "terminal state"),
        case("a hub that is a path", get("instances?taskHub=..%2Fother"), "", 404, ""),
    ]
}

#[tokio::test]
async fn over_http_it_is_refused_and_changes_nothing() {
    let hub = Hub::new().await;
    let foreign = hub.foreign_token().await;
    let router = Api::new(hub.client()).into_router();
    let before = hub.dump();
    let cases = [native(&foreign), compat(&foreign)].concat();
    let mut wrong = Vec::new();
    for (what, head, body, status, says) in &cases {
        let mut lines = head.lines();
        let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost:7071");
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let Ok(request) = request.body(Body::from(body.clone())) else {
            wrong.push(format!("{what}: not a request"));
            continue;
        };
        let answer = router.clone().oneshot(request).await.unwrap();
        let answered = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        if answered != *status || !text.contains(says) {
            wrong.push(format!(
                "{what} ({method} {}): expected {status} {says:?}, answered {answered} {}",
                shown(uri),
                shown(&text)
            ));
        }
    }
    judge(&hub, &before, cases.len(), &wrong);
    hub.host.shut_down().await;
}
