//! A client of a running server.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Error as TransportError};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::address::Address;
use crate::proto::v1::authorizer_client::AuthorizerClient;
use crate::proto::v1::{CheckRequest, CheckResponse, WatchRequest, WatchResponse};

/// The longest time for connecting. A server should be near.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The longest time until a response begins.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A client that is connected to a running server.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    channel: Channel,
}

/// The reason why a server did not answer as expected.
#[derive(Debug)]
pub enum ClientError {
    /// A server that cannot be reached, or does not speak the protocol.
    Unreachable(Address, TransportError),
    /// A response with an error.
    Refused(Address, Box<Status>),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(address, error) => {
                write!(f, "cannot reach {address}")?;
                let mut cause = error.source();
                let mut last = String::new();
                while let Some(error) = cause {
                    // Some layers only repeat what is below them.
                    let text = error.to_string();
                    if text != last {
                        write!(f, ": {text}")?;
                    }
                    last = text;
                    cause = error.source();
                }
                Ok(())
            }
            Self::Refused(address, status) if status.code() == Code::Unimplemented => {
                write!(f, "{address} is not the admin port: give the address of `serve --admin`")
            }
            Self::Refused(address, status) => write!(f, "{address}: {}", status.message()),
        }
    }
}

impl std::error::Error for ClientError {}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// If no server listens at the address.
    pub async fn connect(address: &Address) -> Result<Self, ClientError> {
        let unreachable = |error| ClientError::Unreachable(address.clone(), error);
        let uri = match address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(_) => address.to_string(),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(unreachable)?;
        let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).timeout(ANSWER_WITHIN);
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(Self { address: address.clone(), channel })
    }

    /// Returns true if the server is ready for requests.
    ///
    /// # Errors
    /// If the server does not report its health.
    pub async fn is_serving(&self) -> Result<bool, ClientError> {
        let mut client = HealthClient::new(self.channel.clone());
        let asked = client.check(HealthCheckRequest::default()).await;
        let status = asked.map_err(|status| self.refused(status))?.into_inner().status();
        Ok(status == ServingStatus::Serving)
    }

    /// Returns the response that the server would give to a request.
    ///
    /// # Errors
    /// If the server cannot check the request.
    pub async fn check(&self, request: CheckRequest) -> Result<CheckResponse, ClientError> {
        let mut client = AuthorizerClient::new(self.channel.clone());
        let asked = client.check(request).await;
        Ok(asked.map_err(|status| self.refused(status))?.into_inner())
    }

    /// Returns the decisions that the server makes from now on.
    ///
    /// # Errors
    /// If the server refuses to report decisions.
    pub async fn watch(&self, request: WatchRequest) -> Result<Decisions, ClientError> {
        let mut client = AuthorizerClient::new(self.channel.clone());
        let asked = client.watch(request).await;
        let stream = asked.map_err(|status| self.refused(status))?.into_inner();
        Ok(Decisions { client: self.clone(), stream })
    }

    fn refused(&self, status: Status) -> ClientError {
        ClientError::Refused(self.address.clone(), Box::new(status))
    }
}

/// The decisions of a server, as it makes them.
#[derive(Debug)]
pub struct Decisions {
    client: Client,
    stream: Streaming<WatchResponse>,
}

impl Decisions {
    /// Returns the next decision, or `None` if the server ended the stream.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, ClientError> {
        self.stream.message().await.map_err(|status| self.client.refused(status))
    }
}
