//! `passbook dlq`: looks at the dead letters, the messages that could not be
//! processed. It changes nothing.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use async_nats::{
    ConnectOptions, HeaderMap, ServerAddr,
    jetstream::{
        self,
        context::GetStreamErrorKind,
        message::StreamMessage,
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use clap::{Args, Subcommand};
use contract::DEAD_LETTER;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use crate::{
    cli::{Dir, stack_of},
    output::{self, Format, Output},
};

/// Look at dead letters: messages that could not be processed.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ls(Ls),
    Show(Show),
}

/// List the dead letters, newest first.
///
/// Exits with 1 when there are any, so that a script can tell.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    broker: Broker,
    /// Letters listed at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    format: Format,
}

/// Show one dead letter with its body.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its id, as `passbook dlq ls` lists it.
    id: u64,
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    format: Format,
}

/// Where the dead letters are.
#[derive(Debug, Args)]
struct Broker {
    #[command(flatten)]
    dir: Dir,
    /// Address of NATS with a user that may read DEAD_LETTER. Without it, that of the development
    /// stack.
    #[arg(long, value_name = "URL", env = "PASSBOOK_NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
}

/// One dead letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    id: u64,
    kept_at: String,
    consumer: String,
    reason: String,
    /// Where it was published.
    subject: String,
    /// Its `Nats-Msg-Id`.
    message_id: Option<String>,
    /// How long it was, if it had to be cut.
    truncated_from: Option<String>,
    body: String,
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Ls(ls) => ls.run().await,
            Self::Show(show) => show.run().await,
        }
    }
}

impl Ls {
    async fn run(self) -> Result<ExitCode> {
        let Some(stream) = self.broker.dead_letters().await? else {
            return print(self.format.output, &[], 0);
        };
        let state = &stream.cached_info().state;
        let mut letters = Vec::new();
        // A stream that keeps everything has few gaps: from the newest backwards.
        for id in (state.first_sequence..=state.last_sequence).rev() {
            if letters.len() >= self.limit || state.messages == 0 {
                break;
            }
            letters.extend(find(&stream, id).await?);
        }
        print(self.format.output, &letters, state.messages)
    }
}

fn print(format: Output, letters: &[Letter], all: u64) -> Result<ExitCode> {
    match format {
        Output::Json => output::json(&letters)?,
        Output::Table if letters.is_empty() => output::line("no dead letters")?,
        Output::Table => {
            let row = |it: &Letter| {
                vec![it.id.to_string(), it.kept_at.clone(), it.consumer.clone(), it.reason.clone()]
            };
            output::table(&["ID", "KEPT AT", "CONSUMER", "REASON"], letters.iter().map(row))?;
            output::line(&format!("\n{} of {all}", letters.len()))?;
        }
    }
    Ok(ExitCode::from(u8::from(all > 0)))
}

impl Show {
    async fn run(self) -> Result<ExitCode> {
        let letter = match self.broker.dead_letters().await? {
            Some(stream) => find(&stream, self.id).await?,
            None => None,
        };
        let Some(letter) = letter else {
            bail!("there is no dead letter {}: `passbook dlq ls` lists them", self.id);
        };
        if self.format.output == Output::Json {
            output::json(&letter)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = [
            ("id", letter.id.to_string()),
            ("kept at", letter.kept_at),
            ("consumer", letter.consumer),
            ("reason", letter.reason),
            ("published on", letter.subject),
            ("message id", letter.message_id.unwrap_or_default()),
            ("cut from", letter.truncated_from.map(|it| format!("{it} bytes")).unwrap_or_default()),
        ];
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            output::line(&format!("{name:>12}  {value}"))?;
        }
        output::line(&format!("\n{}", letter.body))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Broker {
    /// The stream, or `None` where nobody has made it yet.
    async fn dead_letters(&self) -> Result<Option<Stream>> {
        let url = match &self.nats_url {
            Some(url) => url.clone(),
            None => stack_of(&self.dir).context("no NATS URL is given")?.nats,
        };
        let address: ServerAddr =
            url.parse().ok().context("the NATS URL must be like nats://user:password@host:4222")?;
        let mut options = ConnectOptions::new().name("passbook dlq");
        // The client does not take the user out of the address by itself.
        if let (Some(user), Some(password)) = (address.username(), address.password()) {
            options = options.user_and_password(user.to_owned(), password.to_owned());
        }
        let client = options.connect(address.clone()).await.context("connecting to NATS")?;
        match jetstream::new(client).get_stream(DEAD_LETTER).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(missing)
                    if missing.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(error).context("looking at DEAD_LETTER"),
            },
        }
    }
}

/// The letter with this id, if it is there.
async fn find(stream: &Stream, id: u64) -> Result<Option<Letter>> {
    match stream.get_raw_message(id).await {
        Ok(message) => Ok(Some(Letter::from(message))),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading dead letter {id}")),
    }
}

impl From<StreamMessage> for Letter {
    fn from(message: StreamMessage) -> Self {
        let header = |name: &str| header(&message.headers, name);
        // `dead-letter.<stream>.<consumer>`
        let consumer = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
        Self {
            id: message.sequence,
            kept_at: message.time.format(&Rfc3339).unwrap_or_default(),
            consumer,
            reason: header("Passbook-Reason").unwrap_or_default(),
            subject: header("Passbook-Subject").unwrap_or_default(),
            message_id: header("Passbook-Message-Id"),
            truncated_from: header("Passbook-Truncated-From"),
            body: String::from_utf8_lossy(&message.payload).into_owned(),
        }
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(ToString::to_string)
}
