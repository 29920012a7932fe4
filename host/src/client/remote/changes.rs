//! Changes sent to a remote host.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use perennial_core::{Json, Millis, Reuse};
use reqwest::Method;
use serde_json::json;
use serde_json::value::RawValue;

use super::rewound::RewoundWire;
use super::wire::{CollectedWire, DeploymentWire, InspectedWire};
use super::{Call, Remote, instance};
use crate::client::{Error, Module, Result, raw, rfc3339};
use crate::engine::{Request, StartRequest};
use crate::store::{NewModule, OldVersions, Purged, Reply};

impl Remote {
    /// Does what a request asks for.
    pub(crate) async fn submit(&self, request: Request) -> Result<Reply> {
        match request {
            Request::Start(start) => self.start(start).await,
            Request::RaiseEvent { id, name, data } => {
                let call = Call::post(&instance(&id, &["events", &name])?);
                let data = data.map(|data| data.as_str().as_bytes().to_vec());
                self.done(call.bytes("application/json", data.unwrap_or_default()))
                    .await
            }
            Request::Terminate {
                id,
                reason,
                recursive,
            } => self.command(&id, "terminate", reason, recursive).await,
            Request::Suspend {
                id,
                reason,
                recursive,
            } => self.command(&id, "suspend", reason, recursive).await,
            Request::Resume {
                id,
                reason,
                recursive,
                ..
            } => self.command(&id, "resume", reason, recursive).await,
            Request::Rewind(rewind) => {
                let body = json!({ "reason": rewind.reason, "module": rewind.module });
                self.rewind(&rewind.id, &body).await
            }
            Request::RewindAll(rewind) => {
                let (reason, module) = (&rewind.reason, &rewind.module);
                let body = json!({ "reason": reason, "module": module, "allFailures": true });
                self.rewind(&rewind.id, &body).await
            }
            Request::RewindForgetting {
                rewind,
                all_failures,
            } => {
                let body = json!({
                    "reason": rewind.reason, "module": rewind.module, "allFailures": all_failures, "forgetCompleted": true,
                });
                self.rewind(&rewind.id, &body).await
            }
            Request::Restart(restart) => {
                let begins = restart.new_id.as_deref().unwrap_or(&restart.id);
                let call = Call::post(&instance(&restart.id, &["restart"])?);
                self.done(call.json(&json!({ "id": begins }))?).await
            }
            Request::PurgeId(id) => self.purge(&id, false).await,
            other => self.submit_of_hub(other).await,
        }
    }

    async fn rewind(&self, id: &str, body: &serde_json::Value) -> Result<Reply> {
        let call = Call::post(&instance(id, &["rewind"])?).within(None);
        let done: RewoundWire = self.ask(call.json(body)?).await?;
        Ok(Reply::Rewound(Box::new(done.into())))
    }

    /// What is not about one instance.
    async fn submit_of_hub(&self, request: Request) -> Result<Reply> {
        match request {
            Request::Deploy(module) => self.deploy(*module).await,
            Request::Grant { module, grants } => self.grant(&module, "PUT", grants).await,
            Request::Retain(ages) => {
                let ms = |age: Option<Millis>| age.map(|age| age.0);
                let body = json!({
                    "completed": ms(ages.completed),
                    "failed": ms(ages.failed),
                    "terminated": ms(ages.terminated),
                });
                let call = Call::new(Method::PUT, &["hub", "retention"]);
                self.done(call.json(&body)?).await
            }
            Request::RevokeKey { id } => {
                let call = Call::new(Method::DELETE, &["keys", &id]);
                self.done_if_there(call).await
            }
            Request::CollectModules { old } => {
                let call = Call::post(&["collect"])
                    .flag("oldVersions", matches!(old, OldVersions::Forget));
                let modules: Vec<CollectedWire> = self.ask(call).await?;
                Ok(Reply::Collected(
                    modules.into_iter().map(Into::into).collect(),
                ))
            }
            Request::RemoveModule { name, in_use_too } => {
                let call = Call::new(Method::DELETE, &["modules", &name]);
                self.done_if_there(call.flag("inUseToo", in_use_too)).await
            }
            _ => Err(Error::needs_file("this")),
        }
    }

    async fn done(&self, call: Call) -> Result<Reply> {
        self.send(call).await.map(|_| Reply::Done)
    }

    async fn done_if_there(&self, call: Call) -> Result<Reply> {
        match self.done(call).await {
            Err(error) if error.is_absent_there() => Ok(Reply::Nothing),
            done => done,
        }
    }

    async fn start(&self, start: StartRequest) -> Result<Reply> {
        self.start_when(start, None).await
    }

    /// Starts an instance that begins after so long on the clock of the host.
    pub(crate) async fn start_after(&self, start: StartRequest, delay: Millis) -> Result<()> {
        self.start_when(start, Some(delay)).await.map(drop)
    }

    async fn start_when(&self, start: StartRequest, delay: Option<Millis>) -> Result<Reply> {
        let mut body = BTreeMap::new();
        let mut put = |name: &'static str, value: Option<Box<RawValue>>| {
            value.map(|value| body.insert(name, value));
        };
        let text = |text: &str| Some(raw(&Json::from_text(json!(text).to_string())));
        put("orchestration", text(&start.name));
        put("id", text(&start.id));
        put("version", start.version.as_deref().and_then(text));
        put("input", start.input.as_ref().map(raw));
        match delay {
            Some(delay) => put(
                "startAfterMs",
                Some(raw(&Json::from_text(delay.0.to_string()))),
            ),
            None => put(
                "scheduledTime",
                start.scheduled_for.map(rfc3339).as_deref().and_then(text),
            ),
        };
        let tags: BTreeMap<String, String> = start.tags.into_iter().collect();
        put("tags", Some(raw(&Json::from_text(json!(tags).to_string()))));
        put(
            "reuse",
            text(match start.reuse {
                Reuse::Ended => "ended",
                Reuse::Never => "never",
                Reuse::Any => "any",
            }),
        );
        put("traceParent", start.trace_parent.as_deref().and_then(text));
        self.done(Call::post(&["instances"]).json(&body)?).await
    }

    async fn command(
        &self,
        id: &str,
        verb: &str,
        reason: Option<String>,
        recursive: bool,
    ) -> Result<Reply> {
        let call = Call::post(&instance(id, &[verb])?);
        let body = json!({ "reason": reason, "recursive": recursive });
        self.done(call.json(&body)?.within(None)).await
    }

    /// Lets a quarantined instance go on with another module, which the host looks up.
    pub(crate) async fn resume_on(
        &self,
        id: &str,
        module: &str,
        reason: Option<&str>,
    ) -> Result<()> {
        let call = Call::post(&instance(id, &["resume"])?);
        let body = json!({ "reason": reason, "module": module });
        self.send(call.json(&body)?).await.map(drop)
    }

    /// Deletes an instance, with its descendants if `recursive`.
    pub(crate) async fn purge(&self, id: &str, recursive: bool) -> Result<Reply> {
        #[derive(serde::Deserialize)]
        struct Deleted {
            deleted: u32,
        }
        let Ok(path) = instance(id, &[]) else {
            return Ok(Reply::Nothing);
        };
        let call = Call::new(Method::DELETE, &path).flag("recursive", recursive);
        let found = self.find::<Deleted>(call.within(None)).await?;
        Ok(Reply::Purged(Purged {
            deleted: found.map_or(0, |purged| purged.deleted),
            live: 0,
        }))
    }

    async fn deploy(&self, module: NewModule) -> Result<Reply> {
        let call = Call::new(Method::PUT, &["modules", &module.name])
            .flag("replace", module.replace)
            .within(None);
        let raw = |text: Option<String>| {
            let raw = text.map(RawValue::from_string).transpose();
            raw.map_err(|error| Error::json("what comes with a module", &error))
        };
        let call = match (raw(module.grants)?, raw(module.limits)?) {
            (None, None) => call.bytes("application/wasm", module.component),
            (grants, limits) => {
                let component = BASE64_STANDARD.encode(module.component);
                call.json(&Upload {
                    component,
                    grants,
                    limits,
                })?
            }
        };
        let done: DeploymentWire = self.ask(call).await?;
        Ok(Reply::Deployed(
            done.names.into_iter().map(Into::into).collect(),
        ))
    }

    /// Has the host look at a module.
    pub(crate) async fn inspect(&self, name: String, component: Vec<u8>) -> Result<Module> {
        let call = Call::post(&["inspect"])
            .within(None)
            .bytes("application/wasm", component.clone());
        let found: InspectedWire = self.ask(call).await?;
        Ok(Module {
            name,
            digest: found.digest.0,
            component,
            contract: found.contract,
            definitions: found.definitions,
            imports: found.imports,
        })
    }

    /// Says what a module is granted (`PUT`), or grants it more (`POST`).
    pub(crate) async fn grant(&self, module: &str, verb: &str, grants: String) -> Result<Reply> {
        let method = if verb == "PUT" {
            Method::PUT
        } else {
            Method::POST
        };
        let call = Call::new(method, &["modules", module, "grants"]);
        self.done_if_there(call.bytes("application/json", grants.into_bytes()))
            .await
    }
}

/// A component with what it is granted and may use.
#[derive(serde::Serialize)]
struct Upload {
    component: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grants: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Box<RawValue>>,
}
