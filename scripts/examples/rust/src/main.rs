//! Follows a stream of a deltawire gateway and writes its text to standard output, each piece once. A lost connection is
//! resumed at the last position; SPEC §5.5 and §8 say when.
//!
//!     cargo run -- ws://127.0.0.1:8765 demo

use std::io::{stdout, Write};
use std::time::{Duration, SystemTime};
use std::{env, error::Error, process::exit, thread::sleep};

use serde_json::Value;
use tungstenite::{client::IntoClientRequest, connect, Message};

const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(8);

/// Reads until the stream ends, and keeps `query` at the position to resume from.
fn follow(address: &str, query: &mut String) -> Result<(), Box<dyn Error>> {
    let mut request = format!("{address}{query}").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", "deltawire.v1.json".parse()?);
    let (mut socket, _) = connect(request)?;
    let mut epoch = String::new();
    loop {
        let text = match socket.read()? {
            Message::Text(text) => text,
            Message::Close(Some(frame)) if u16::from(frame.code) >= 4500 => {
                eprintln!("refused: {}", frame.reason);
                exit(1);
            }
            Message::Close(_) => return Err("the gateway closed the connection".into()),
            _ => continue, // pings are answered by the library
        };
        let got: Value = serde_json::from_str(&text)?;
        match got["type"].as_str().unwrap_or_default() {
            "subscribed" => epoch = got["epoch"].as_str().unwrap_or_default().into(),
            "text_delta" => {
                print!("{}", got["data"]["text"].as_str().unwrap_or_default());
                stdout().flush()?;
            }
            "gap" => eprintln!(
                "events {} to {} are missing: {}",
                got["first"], got["seq"], got["reason"]
            ),
            "problem" => eprintln!("{}", got["message"]),
            "stream_end" => return Ok(()),
            _ => {}
        }
        if let Some(seq) = got["seq"].as_u64() {
            *query = format!("?after={seq}&epoch={epoch}");
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let address = format!("{}/v1/streams/{}/subscribe", arguments[1], arguments[2]);
    let (mut query, mut wait) = (String::new(), SHORTEST);
    loop {
        let before = query.clone();
        let Err(why) = follow(&address, &mut query) else {
            return;
        };
        wait = if query == before { wait * 2 } else { SHORTEST };
        if wait > LONGEST {
            eprintln!("given up: {why}");
            exit(1);
        }
        sleep(wait.mul_f64(chance())); // readers that are lost together must not come back together
    }
}

/// A number from 0 to 1 that differs between programs.
fn chance() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    f64::from(now.map_or(0, |since| since.subsec_nanos())) / 1e9
}
