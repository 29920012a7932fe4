//! Exports traces with OpenTelemetry (OTLP over HTTP): one trace for each instance, with a span for each execution, each attempt of an
//! activity and each child. If a start carries a `traceparent`, the instance continues that trace.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use perennial::telemetry::Otlp;
//! use std::sync::Arc;
//!
//! let otlp = Arc::new(Otlp::new("http://127.0.0.1:4318")?);
//! let host = perennial::Host::builder().spans(otlp.clone()).start().await?;
//! // …
//! host.shut_down().await;
//! otlp.shut_down()?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind as OtelKind, Status as OtelStatus, TraceFlags, TraceId,
    TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use perennial_core::{Timestamp, TraceContext};

use crate::engine::spans::{Span, SpanKind, SpanSink};

/// The service name if `OTEL_SERVICE_NAME` is not set.
const SERVICE: &str = "perennial";

/// How long the last spans may take to be sent.
const SHUT_DOWN_MAX: Duration = Duration::from_secs(5);

/// Traces could not be set up or sent.
#[derive(Debug, thiserror::Error)]
#[error("could not export traces: {0}")]
pub struct TelemetryError(String);

/// Sends spans to a collector, in batches, from its own thread. Spans that the collector does not take in time are dropped and logged: an
/// instance never waits for it.
///
/// The variables of the OpenTelemetry specification apply to everything else: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
/// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_EXPORTER_OTLP_PROTOCOL` (`http/protobuf` or `http/json`),
/// `OTEL_BSP_*`.
pub struct Otlp {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp").finish_non_exhaustive()
    }
}

impl Otlp {
    /// Exports to the collector at this address; spans are sent to `/v1/traces` below it.
    ///
    /// # Errors
    /// If the address is not a URL, or `OTEL_EXPORTER_OTLP_PROTOCOL` names an unsupported protocol.
    pub fn new(endpoint: &str) -> Result<Self, TelemetryError> {
        let protocol = match std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
            Ok("http/json") => Protocol::HttpJson,
            Err(_) | Ok("" | "http/protobuf") => Protocol::HttpBinary,
            Ok(other) => {
                return Err(TelemetryError(format!(
                    "OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}; http/protobuf and http/json are spoken"
                )));
            }
        };
        let is_http = ["http://", "https://"]
            .iter()
            .any(|scheme| endpoint.starts_with(scheme));
        if !is_http {
            return Err(TelemetryError(format!(
                "{endpoint:?} is no address of a collector, such as http://127.0.0.1:4318"
            )));
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(protocol)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| TelemetryError(error.to_string()))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let resource = Resource::builder();
        let resource = match std::env::var("OTEL_SERVICE_NAME") {
            Ok(name) if !name.is_empty() => resource,
            _ => resource.with_service_name(SERVICE),
        };
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder("perennial")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self { processor, scope })
    }

    /// Sends the remaining spans and accepts no more. Blocks for at most 5 seconds.
    ///
    /// # Errors
    /// If the collector did not take them.
    pub fn shut_down(&self) -> Result<(), TelemetryError> {
        self.processor
            .shutdown_with_timeout(SHUT_DOWN_MAX)
            .map_err(|error| TelemetryError(error.to_string()))
    }
}

impl SpanSink for Otlp {
    fn ended(&self, span: Span) {
        self.processor.on_end(data(span, self.scope.clone()));
    }
}

/// Converts a span. Names are those that Durable Functions uses.
fn data(span: Span, scope: InstrumentationScope) -> SpanData {
    let text = |key: &'static str, value: String| KeyValue::new(key, value);
    let mut attributes = vec![
        text("perennial.instance_id", span.instance_id),
        text("perennial.execution_id", span.execution_id),
    ];
    let (what, kind) = match span.kind {
        SpanKind::Execution => {
            let status = span.status.map(|status| status.to_string());
            let status = status.unwrap_or_else(|| "ContinuedAsNew".to_owned());
            attributes.push(text("perennial.status", status));
            ("orchestration", OtelKind::Server)
        }
        SpanKind::Attempt(attempt) => {
            attributes.push(KeyValue::new("perennial.attempt", i64::from(attempt)));
            ("activity", OtelKind::Internal)
        }
    };
    let status = match span.failure {
        Some(failure) => {
            attributes.push(text("error.type", failure.kind));
            OtelStatus::error(failure.message)
        }
        None => OtelStatus::Unset,
    };
    SpanData {
        span_context: context(span.context),
        parent_span_id: span
            .parent
            .map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
        parent_span_is_remote: span.kind == SpanKind::Execution,
        span_kind: kind,
        name: format!("{what}:{}", span.name).into(),
        start_time: time(span.began),
        end_time: time(span.ended),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: scope,
    }
}

fn context(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace_id.to_be_bytes()),
        SpanId::from_bytes(context.span_id.to_be_bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)
}
