//! A real MCP server with three tools, over streamable HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, schemars, tool, tool_router};
use tokio::net::TcpListener;

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct Echo {
    /// The text to return.
    text: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct Sum {
    a: i64,
    b: i64,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct Countdown {
    from: u8,
}

/// The tools, and how often one was run.
#[derive(Debug, Clone)]
pub struct Tools {
    tool_router: ToolRouter<Self>,
    runs: Arc<AtomicUsize>,
}

#[tool_router]
impl Tools {
    pub fn new(runs: Arc<AtomicUsize>) -> Self {
        Self { tool_router: Self::tool_router(), runs }
    }

    fn count_run(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
    }

    #[tool(description = "Says what it is told")]
    fn echo(&self, Parameters(Echo { text }): Parameters<Echo>) -> String {
        self.count_run();
        text
    }

    #[tool(description = "Adds two numbers")]
    fn sum(&self, Parameters(Sum { a, b }): Parameters<Sum>) -> String {
        self.count_run();
        (a + b).to_string()
    }

    #[tool(description = "Counts down")]
    fn countdown(&self, Parameters(Countdown { from }): Parameters<Countdown>) -> String {
        self.count_run();
        (0..=from).rev().map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
    }
}

#[rmcp::tool_handler(router = self.tool_router)]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// The tools at `/mcp`.
pub fn router(tools: Tools, config: StreamableHttpServerConfig) -> Router {
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(tools.clone()), sessions, config);
    Router::new().nest_service("/mcp", service)
}

/// A server that runs as long as the runtime does.
#[derive(Debug)]
pub struct McpServer {
    pub port: u16,
    requests: Arc<AtomicUsize>,
    runs: Arc<AtomicUsize>,
}

impl McpServer {
    /// Starts it on a free port.
    pub async fn start() -> std::io::Result<Self> {
        let requests = Arc::new(AtomicUsize::new(0));
        let runs = Arc::new(AtomicUsize::new(0));
        let tools = Tools::new(Arc::clone(&runs));
        let router = router(tools, StreamableHttpServerConfig::default())
            .layer(middleware::from_fn_with_state(Arc::clone(&requests), count));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { port, requests, runs })
    }

    /// Returns the number of HTTP requests that have reached the server, completely or in part.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Returns the number of tool runs so far.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

async fn count(State(requests): State<Arc<AtomicUsize>>, request: Request, next: Next) -> Response {
    requests.fetch_add(1, Ordering::SeqCst);
    next.run(request).await
}
