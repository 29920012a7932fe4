//! The client of every engine that is asked over HTTP: the same code, so that its share of the processor is the same too.

use std::process::Child;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A server that ends with its driver.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Requests to one path, over connections that are kept: as many as there are requests at once.
pub struct Calls {
    address: String,
    path: &'static str,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Calls {
    /// `address` is `HOST:PORT`.
    pub fn new(address: String, path: &'static str) -> Self {
        Self {
            address,
            path,
            idle: Mutex::default(),
        }
    }

    /// The body of the answer to one POST without a body. Panics where the answer is no success: a benchmark must not count it.
    pub async fn post(&self) -> String {
        let idle = self.idle.lock().unwrap().pop();
        let mut connection = match idle.filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await,
        };
        let request = Request::post(self.path)
            .header(header::HOST, &self.address)
            .body(Empty::new())
            .unwrap();
        connection.ready().await.unwrap();
        let answer = connection.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(status, 200, "{body}");
        self.idle.lock().unwrap().push(connection);
        body
    }

    async fn connect(&self) -> SendRequest<Empty<Bytes>> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (calls, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        calls
    }
}
