//! Reads the settings, and types of single settings.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    path::Path,
    str::FromStr,
    time::Duration,
};

use clap::{Command, Parser, error::ErrorKind};

/// Parses the flags and the environment of this process.
///
/// Each setting with a variable can also be in a file: the variable with `_FILE` at its
/// end has the file's path. A line break at the end of the file is ignored. So a secret
/// can be mounted, and is in no environment. A flag takes precedence over the file.
///
/// Exits with a usage error if an argument is invalid, a file can't be read, or both
/// variables are set.
#[must_use]
pub fn parse<C: Parser>() -> C {
    let command = with_files(C::command(), &|variable| env::var_os(variable));
    let matches = command.and_then(Command::try_get_matches);
    let parsed = matches.and_then(|mut matches| {
        C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut C::command()))
    });
    parsed.unwrap_or_else(|error| error.exit())
}

/// Makes the contents of files the defaults of their settings, in subcommands, too.
fn with_files(
    mut command: Command,
    variable: &dyn Fn(&OsStr) -> Option<OsString>,
) -> Result<Command, clap::Error> {
    let mut contents = Vec::new();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_env() else { continue };
        let mut file_name = name.to_owned();
        file_name.push("_FILE");
        let Some(path) = variable(&file_name) else { continue };
        let file_name = file_name.display();
        if variable(name).is_some() {
            let name = name.display();
            let reason = format!("{name} and {file_name} are both set: set one of them\n");
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, reason));
        }
        let text = fs::read_to_string(&path).map_err(|error| {
            let path = Path::new(&path).display();
            clap::Error::raw(ErrorKind::Io, format!("{file_name}: {path}: {error}\n"))
        })?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text).to_owned();
        contents.push((argument.get_id().clone(), text));
    }
    for (id, text) in contents {
        command = command.mut_arg(id, |argument| {
            argument.required(false).hide_default_value(true).default_value(text)
        });
    }
    let mut failure = None;
    command = command.mut_subcommands(|subcommand| {
        with_files(subcommand.clone(), variable).unwrap_or_else(|error| {
            failure = Some(error);
            subcommand
        })
    });
    failure.map_or(Ok(command), Err)
}

/// A secret text. `Debug` does not show the text, so that it can't get into logs.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Parses a duration with its unit: `250ms`, `5s`, `2m`.
///
/// # Errors
/// A sentence that names the accepted forms.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let number: u64 = digits.parse().map_err(|_| "must be like 250ms, 5s or 2m".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("must be like 250ms, 5s or 2m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "s", "-1s", "1.5s", "5h", "5 s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[derive(Debug, Parser)]
    struct Settings {
        #[arg(long, env = "TESTED_URL")]
        url: String,
        #[arg(long, env = "TESTED_NUMBER", default_value_t = 1)]
        number: u8,
        #[command(subcommand)]
        action: Action,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Action {
        Act {
            #[arg(long, env = "TESTED_PASSWORD", requires = "user")]
            password: Option<String>,
            #[arg(long, env = "TESTED_USER", requires = "password")]
            user: Option<String>,
        },
    }

    /// The settings, or the error, with these variables.
    fn parsed(variables: &[(&str, &str)], arguments: &[&str]) -> Result<Settings, String> {
        use clap::{CommandFactory, FromArgMatches};
        let variable = |wanted: &OsStr| {
            let found = variables.iter().find(|(name, _)| wanted == *name);
            found.map(|(_, value)| OsString::from(value))
        };
        let command = with_files(Settings::command(), &variable).map_err(|e| e.to_string())?;
        let matches = command.try_get_matches_from([&["program"], arguments].concat());
        Settings::from_arg_matches(&matches.map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_setting_is_read_from_a_file_and_a_flag_takes_precedence() {
        let folder = env::temp_dir().join(format!("passbook-setting-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name).display().to_string()
        };
        let (url, lines) = (file("url", "postgres://a b\r\n"), file("lines", "PEM\nPEM\n\n"));
        let number = file("number", "7");
        let files = [
            ("TESTED_URL_FILE", &*url),
            ("TESTED_NUMBER_FILE", &number),
            ("TESTED_PASSWORD_FILE", &lines),
            ("TESTED_USER_FILE", &number),
        ];
        let settings = parsed(&files, &["act"]).unwrap();
        assert_eq!((settings.url.as_str(), settings.number), ("postgres://a b", 7));
        let Action::Act { password, user } = settings.action;
        assert_eq!((password.as_deref(), user.as_deref()), (Some("PEM\nPEM\n"), Some("7")));
        assert_eq!(parsed(&files, &["--number", "2", "act"]).unwrap().number, 2);

        assert!(parsed(&[], &["act"]).unwrap_err().contains("--url"));
        let missing = folder.join("missing").display().to_string();
        let error = parsed(&[("TESTED_USER_FILE", &missing)], &["act"]).unwrap_err();
        assert!(error.contains("TESTED_USER_FILE: ") && error.contains(&missing), "{error}");
        let both = [("TESTED_URL_FILE", &*url), ("TESTED_URL", "secret")];
        let error = parsed(&both, &["act"]).unwrap_err();
        assert!(error.contains("TESTED_URL_FILE") && !error.contains("secret"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret: Secret = "hunter2".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "(secret)");
    }
}
