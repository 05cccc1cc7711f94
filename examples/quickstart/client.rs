//! A real MCP client that calls a tool and says what came of it.

use rmcp::ServiceExt as _;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::Value;

use crate::tokens::Error;

/// The outcome of a call, as a client's user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The tool's text.
    Text(String),
    /// Refused with a `WWW-Authenticate` header.
    Challenged(String),
    /// Refused with a message.
    Refused(String),
}

/// A connected client.
pub struct Client(RunningService<RoleClient, ()>);

impl Client {
    /// Connects (`initialize`) with a token.
    pub async fn connect(url: &str, token: &str) -> Result<Self, Error> {
        let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
        let client = ().serve(StreamableHttpClientTransport::from_config(config)).await?;
        Ok(Self(client))
    }

    /// The names of the tools that the server lists.
    pub async fn tools(&self) -> Result<Vec<String>, Error> {
        let tools = self.0.list_all_tools().await?;
        Ok(tools.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    /// Calls a tool.
    pub async fn call(&self, tool: &'static str, arguments: &Value) -> Result<Answer, Error> {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let call = CallToolRequestParams::new(tool).with_arguments(arguments);
        match self.0.call_tool(call).await {
            Ok(result) => {
                let text = result.content.iter().filter_map(|content| content.as_text());
                Ok(Answer::Text(text.map(|text| text.text.as_str()).collect()))
            }
            Err(error) => Ok(match error.auth_challenge() {
                Some(challenge) => Answer::Challenged(challenge.to_owned()),
                None => Answer::Refused(in_full(&error)),
            }),
        }
    }

    /// The sentence that a client's user is shown when a call fails.
    pub async fn shown(&self, tool: &'static str, arguments: &Value) -> String {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let call = CallToolRequestParams::new(tool).with_arguments(arguments);
        self.0.call_tool(call).await.err().map(|error| in_full(&error)).unwrap_or_default()
    }

    /// Ends the session (`DELETE`).
    pub async fn close(self) -> Result<(), Error> {
        self.0.cancel().await?;
        Ok(())
    }
}

/// An error with its causes.
fn in_full(error: &ServiceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
