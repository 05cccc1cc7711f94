//! A span for each decision, sent by the OpenTelemetry protocol (OTLP).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, TraceContextExt as _, TraceFlags, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use crate::gate::TraceContext;
use crate::record::{Field, Record, fields};

/// The longest time to send the last spans when the process ends.
const LAST_CALL: Duration = Duration::from_secs(2);

/// The address of an OTLP receiver over gRPC, where spans are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

/// The error of a text that is not an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError(String);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not the http:// URL of an OTLP/gRPC receiver, such as http://127.0.0.1:4317",
            self.0
        )
    }
}

impl std::error::Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri = text.parse::<http::Uri>().ok();
        let is_good = uri.is_some_and(|uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
        });
        if is_good { Ok(Self(text.to_owned())) } else { Err(EndpointError(text.to_owned())) }
    }
}

/// A sender of spans, in the background and in batches. The system that began the trace of a
/// request decides whether the trace is recorded.
#[derive(Debug)]
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// Creates a sender to an endpoint, which runs on the current Tokio runtime.
    ///
    /// # Errors
    /// If no exporter can be created.
    pub fn new(Endpoint(url): &Endpoint) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(url).build()?;
        let resource = Resource::builder()
            .with_service_name(env!("CARGO_PKG_NAME"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self { provider, tracer })
    }

    /// Sends the span of a decision that ended at `end`.
    pub(super) fn decided(&self, record: &Record, end: SystemTime) {
        let start = record.took.and_then(|took| end.checked_sub(took)).unwrap_or(end);
        let attributes = fields(&record.decision).filter_map(attribute);
        let builder = SpanBuilder::from_name("mcp_authz.decide")
            .with_kind(SpanKind::Internal)
            .with_start_time(start)
            .with_attributes(attributes);
        let parent = match record.trace {
            Some(trace) => Context::new().with_remote_span_context(span_context(trace)),
            None => Context::new(),
        };
        self.tracer.build_with_context(builder, &parent).end_with_timestamp(end);
    }

    /// Sends the spans that have not been sent.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_CALL) {
            tracing::warn!("the last spans were not sent: {error}");
        }
    }
}

fn span_context(TraceContext { trace_id, span_id, sampled }: TraceContext) -> SpanContext {
    let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(trace_id.into(), span_id.into(), flags, true, TraceState::default())
}

/// Converts a field of a decision to an attribute. Returns `None` for fields that are a part of
/// every span.
fn attribute((name, field): (&'static str, Field<'_>)) -> Option<KeyValue> {
    if ["time", "duration", "traceId", "spanId"].contains(&name) {
        return None;
    }
    let value = match field {
        Field::Text(text) => Value::from(text.to_owned()),
        Field::Written(text) => Value::from(text),
        Field::Texts(texts) => {
            let texts: Vec<StringValue> = texts.iter().cloned().map(StringValue::from).collect();
            Value::Array(Array::String(texts))
        }
        Field::Number(number) => Value::from(i64::from(number)),
        Field::Bool(value) => Value::from(value),
    };
    Some(KeyValue::new(format!("mcp_authz.{name}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_http_url() {
        for good in ["http://127.0.0.1:4317", "http://collector:4317/", "http://[::1]:4317"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:4317", "https://collector:4317", "http://", "unix:/run/otlp"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
