//! A receiver of spans (OTLP over gRPC).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span, as far as tests look at it.
#[derive(Debug)]
pub struct Span {
    pub name: String,
    pub trace_id: String,
    pub parent_span_id: String,
    pub nanoseconds: u64,
    /// Those that are texts.
    pub attributes: BTreeMap<String, String>,
}

/// Receives spans as long as the runtime runs.
#[derive(Debug)]
pub struct Collector {
    pub port: u16,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = TraceServiceServer::new(Receiver(Arc::clone(&spans)));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { port, spans }
    }

    /// Returns the spans received since the last time.
    pub fn take(&self) -> Vec<Span> {
        std::mem::take(&mut self.spans.lock().unwrap())
    }
}

struct Receiver(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let hexadecimal =
            |id: Vec<u8>| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|spans| spans.scope_spans).flat_map(|scope| scope.spans);
        let spans = spans.map(|span| Span {
            name: span.name,
            trace_id: hexadecimal(span.trace_id),
            parent_span_id: hexadecimal(span.parent_span_id),
            nanoseconds: span.end_time_unix_nano - span.start_time_unix_nano,
            attributes: span
                .attributes
                .into_iter()
                .filter_map(|attribute| match attribute.value?.value? {
                    Value::StringValue(text) => Some((attribute.key, text)),
                    _ => None,
                })
                .collect(),
        });
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
