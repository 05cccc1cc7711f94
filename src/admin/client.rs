//! Asking a server that runs.

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

/// A server should be near.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// And answers begin soon.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A server that runs.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    channel: Channel,
}

/// Why a server did not answer as it should.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there who could be understood.
    Unreachable(Address, TransportError),
    /// It answered, but not what was asked.
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
    /// If nobody listens there.
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

    /// Whether requests may be sent there.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn is_serving(&self) -> Result<bool, ClientError> {
        let mut client = HealthClient::new(self.channel.clone());
        let asked = client.check(HealthCheckRequest::default()).await;
        let status = asked.map_err(|status| self.refused(status))?.into_inner().status();
        Ok(status == ServingStatus::Serving)
    }

    /// What would be answered to a request.
    ///
    /// # Errors
    /// If it cannot be asked about.
    pub async fn check(&self, request: CheckRequest) -> Result<CheckResponse, ClientError> {
        let mut client = AuthorizerClient::new(self.channel.clone());
        let asked = client.check(request).await;
        Ok(asked.map_err(|status| self.refused(status))?.into_inner())
    }

    /// The decisions from now on.
    ///
    /// # Errors
    /// If they are not told.
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

/// Decisions as they are made.
#[derive(Debug)]
pub struct Decisions {
    client: Client,
    stream: Streaming<WatchResponse>,
}

impl Decisions {
    /// The next one; `None` if the server ended.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, ClientError> {
        self.stream.message().await.map_err(|status| self.client.refused(status))
    }
}
