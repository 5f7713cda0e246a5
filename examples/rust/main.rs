//! A custom runtime in Rust with nothing but the standard library.
//!
//!     rustc -O -o bootstrap main.rs
//!     firelet deploy bootstrap --name rust --runtime provided.al2023 --handler main
//!
//! With the crate `lambda_runtime` the loop below is one call; the contract is the same.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

const PREFIX: &str = "/2018-06-01/runtime/invocation";

/// One event, as the Runtime API hands it out.
struct Event {
    request_id: String,
    body: Vec<u8>,
}

/// The Runtime API over one connection that is kept.
struct RuntimeApi {
    address: String,
    stream: BufReader<TcpStream>,
}

impl RuntimeApi {
    fn connect() -> io::Result<Self> {
        let address = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
        let stream = TcpStream::connect(&address)?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    fn next(&mut self) -> io::Result<Event> {
        let head = format!("GET {PREFIX}/next HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.get_mut().write_all(head.as_bytes())?;
        let (headers, body) = self.read()?;
        let request_id = find(&headers, "lambda-runtime-aws-request-id")?;
        Ok(Event { request_id, body })
    }

    fn report(&mut self, event: &Event, outcome: &str, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "POST {PREFIX}/{}/{outcome} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            event.request_id,
            self.address,
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request)?;
        self.read().map(|_| ())
    }

    /// One answer: its headers, names in lower case, and its body.
    fn read(&mut self) -> io::Result<(Vec<(String, String)>, Vec<u8>)> {
        let mut headers = Vec::new();
        self.line()?;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
            }
        }
        let length = find(&headers, "content-length")?;
        let mut body = vec![0; length.parse().map_err(io::Error::other)?];
        self.stream.read_exact(&mut body)?;
        Ok((headers, body))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the Runtime API closed the connection"));
        }
        Ok(line.trim_end().to_string())
    }
}

fn find(headers: &[(String, String)], wanted: &str) -> io::Result<String> {
    let found = headers.iter().find(|(name, _)| name == wanted);
    found
        .map(|(_, value)| value.clone())
        .ok_or_else(|| io::Error::other(format!("no header {wanted}")))
}

/// The function itself: JSON in, JSON out.
fn handle(event: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(event).map_err(|error| error.to_string())?;
    if text.contains("\"fail\"") {
        return Err("as told".to_string());
    }
    println!("from rust");
    Ok(format!("{{\"length\":{},\"event\":{text}}}", text.chars().count()).into_bytes())
}

fn main() -> io::Result<()> {
    let mut api = RuntimeApi::connect()?;
    loop {
        let event = api.next()?;
        match handle(&event.body) {
            Ok(answer) => api.report(&event, "response", &answer)?,
            Err(message) => {
                let error =
                    format!("{{\"errorType\":\"Failure\",\"errorMessage\":\"{message}\"}}");
                api.report(&event, "error", error.as_bytes())?;
            }
        }
    }
}
