//! A client of NATS that speaks the protocol by hand, as an intruder with a password would. The
//! library of the services sends no more than they need.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;

/// A connection as one user.
#[derive(Debug)]
pub struct RawNats {
    stream: BufReader<TcpStream>,
    inbox: String,
    requests: usize,
    /// Answers that have arrived: the subject, and the body with the status line, if it has one.
    answers: Vec<(String, String)>,
    refusals: Vec<String>,
}

impl RawNats {
    /// Connects to `address`, as `host:port`. Receives answers on subjects that begin with `inbox`.
    #[must_use]
    pub fn connect(address: &str, user: &str, password: &str, inbox: String) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let stream = BufReader::new(stream);
        let mut client =
            Self { stream, inbox, requests: 0, answers: Vec::new(), refusals: Vec::new() };
        let options = json!({
            "user": user, "pass": password, "verbose": false, "pedantic": false, "lang": "raw",
            "version": "0", "protocol": 1, "headers": true, "no_responders": true,
        });
        client.write(&format!("CONNECT {options}\r\n"));
        client.round_trip();
        assert!(client.refusals.is_empty(), "{user}: {:?}", client.refusals);
        client
    }

    /// Publishes, and returns why the server refuses it.
    pub fn publish(&mut self, subject: &str, reply: &str, body: &str) -> Option<String> {
        self.write(&format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()));
        self.round_trip();
        self.refusals.pop()
    }

    /// Subscribes, and returns why the server refuses it.
    pub fn subscribe(&mut self, subject: &str) -> Option<String> {
        self.requests += 1;
        self.write(&format!("SUB {subject} {}\r\n", self.requests));
        self.round_trip();
        self.refusals.pop()
    }

    /// Sends a request and waits for the first answer.
    pub fn request(&mut self, subject: &str, body: &str) -> String {
        self.requests += 1;
        let reply = format!("{}.{}", self.inbox, self.requests);
        assert_eq!(self.subscribe(&reply), None);
        if let Some(refusal) = self.publish(subject, &reply, body) {
            return refusal;
        }
        let begun = Instant::now();
        loop {
            if let Some((_, answer)) = self.answers.iter().find(|(subject, _)| *subject == reply) {
                return answer.clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{subject}: no answer");
            self.round_trip();
        }
    }

    fn write(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Returns once the server has processed everything before. An answer of JetStream can be later.
    fn round_trip(&mut self) {
        self.write("PING\r\n");
        loop {
            let line = self.line();
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["PONG"] => return,
                ["PING"] => self.write("PONG\r\n"),
                ["-ERR", ..] => self.refusals.push(line),
                ["MSG" | "HMSG", subject, .., length] => {
                    let mut body = vec![0; length.parse::<usize>().unwrap() + 2];
                    self.stream.read_exact(&mut body).unwrap();
                    let body = String::from_utf8_lossy(&body).into_owned();
                    self.answers.push(((*subject).to_owned(), body));
                }
                _ => {}
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(1..) => line,
            Ok(0) => panic!("the server closed the connection: {:?}", self.refusals),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer"),
            Err(error) => panic!("{error}"),
        }
    }
}
