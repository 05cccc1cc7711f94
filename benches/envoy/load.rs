//! A load of requests, each sent when the one before is answered; and a server that
//! answers them.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::tokens::Error;

const RESULT: &str =
    r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"done"}]}}"#;

/// The measurements of one turn.
#[derive(Debug)]
pub struct Measured {
    /// The number of requests that got a response.
    pub requests: u64,
    pub took: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
}

/// Sends a request over so many connections for so long. Every answer must be a 200.
pub async fn load(
    port: u16,
    request: &[u8],
    connections: usize,
    duration: Duration,
) -> Result<Measured, Error> {
    let started = Instant::now();
    let end = started + duration;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (request, stream) = (request.to_vec(), TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
        let stream = stream.await?;
        stream.set_nodelay(true)?;
        tasks.spawn(one(stream, request, end));
    }
    let mut latency = histogram();
    while let Some(done) = tasks.join_next().await {
        latency.add(done??)?;
    }
    let took = started.elapsed();
    Ok(Measured { requests: latency.len(), took, latency })
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap_or_else(|error| panic!("{error}"))
}

async fn one(
    mut stream: TcpStream,
    request: Vec<u8>,
    end: Instant,
) -> Result<Histogram<u64>, Error> {
    let mut latency = histogram();
    let mut answer = vec![0; 64 << 10];
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latency);
        }
        stream.write_all(&request).await?;
        let mut read = 0;
        loop {
            let more = stream.read(&mut answer[read..]).await?;
            if more == 0 {
                return Err("Envoy closed the connection".into());
            }
            read += more;
            if is_whole(&answer[..read])? {
                break;
            }
        }
        latency.saturating_record(u64::try_from(sent.elapsed().as_nanos())?);
    }
}

/// Returns true if a response is complete. Fails if its status is not 200.
fn is_whole(answer: &[u8]) -> Result<bool, Error> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = answer.windows(END.len()).position(|window| window == END) else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("not a 200: {}", String::from_utf8_lossy(answer)).into());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.ok_or("an answer without content-length")?.parse()?;
    Ok(answer.len() >= end + END.len() + length)
}

/// Starts a server that answers every request, on a thread of its own, and tells its port.
pub fn upstream() -> io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let answer = async |_body: Bytes| ([("content-type", "application/json")], RESULT);
            axum::serve(TcpListener::from_std(listener)?, Router::new().fallback(answer)).await
        })
    });
    Ok(port)
}
