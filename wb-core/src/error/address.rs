//! The address of a server, and what may be shown of it.

use std::fmt;

/// What errors, events and `Debug` show where nothing of an address may be shown.
const NOT_SHOWN: &str = "<address not shown>";

/// Bytes of a word of what is hidden from which on it is looked for alone. Shorter ones stand in any message.
const WORD: usize = 4;

/// The address (URL) of a server or a file, as it may stand in errors and logs.
///
/// Shown are scheme, hosts, ports and the name of the database (or the path of a file or a socket), and only where the whole
/// address is understood: of `app:secret@db`, whose scheme was forgotten, nothing is. Users, passwords and options are never shown.
/// For buffers and sinks of your own, so that none of them writes a password into a log:
///
/// ```
/// # use wb_core as write_behind;
/// use write_behind::Address;
///
/// let address = Address::new("postgres://app:secret@db:5432/blog?sslmode=require");
/// assert_eq!(address.to_string(), "postgres://db:5432/blog");
/// assert!(address.is_quoted_in("cannot log in with `secret`"));
/// assert_eq!(Address::new("app:secret@db:5432").to_string(), "<address not shown>");
/// assert!(Address::new("postgres://app:12/34@db/blog").ambiguity().is_some());
/// ```
#[derive(Clone)]
pub struct Address {
    scheme: Option<Scheme>,
    /// `None`: not understood.
    shown: Option<String>,
    /// Parts that are not shown, as they are written and as they are meant.
    hidden: Vec<String>,
    ambiguity: Option<&'static str>,
}

/// What stands before the first colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheme {
    name: &'static str,
    form: Form,
}

/// What follows the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `//[user[:password]@]host[:port]/[database]`; the name of the database is a number.
    Numbered,
    /// The same with a name.
    Named,
    /// The same with several hosts.
    Hosts,
    /// A path.
    Path,
}

const SCHEMES: &[Scheme] = &[
    Scheme { name: "redis", form: Form::Numbered },
    Scheme { name: "rediss", form: Form::Numbered },
    Scheme { name: "valkey", form: Form::Numbered },
    Scheme { name: "valkeys", form: Form::Numbered },
    Scheme { name: "unix", form: Form::Path },
    Scheme { name: "redis+unix", form: Form::Path },
    Scheme { name: "valkey+unix", form: Form::Path },
    Scheme { name: "postgres", form: Form::Named },
    Scheme { name: "postgresql", form: Form::Named },
    Scheme { name: "mysql", form: Form::Named },
    Scheme { name: "mariadb", form: Form::Named },
    Scheme { name: "sqlite", form: Form::Path },
    Scheme { name: "mongodb", form: Form::Hosts },
    Scheme { name: "mongodb+srv", form: Form::Hosts },
];

impl Address {
    /// Reads an address; any text may be given.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let nothing = Self { scheme: None, shown: None, hidden: Vec::new(), ambiguity: None };
        let Some((scheme, rest)) = scheme(text.trim()) else { return nothing };
        let parts = Parts::of(rest, scheme.form);
        let ambiguity = parts.ambiguity(scheme.form);
        let shown = parts.shown(scheme.form).filter(|_| ambiguity.is_none());
        let shown = shown.map(|shown| format!("{}:{shown}", scheme.name));
        let hidden = parts.hidden(shown.is_some());
        Self { scheme: Some(scheme), shown, hidden, ambiguity }
    }

    /// The scheme in lower case, where it is one that the framework knows: of Redis, PostgreSQL, MySQL, MariaDB, SQLite or MongoDB.
    #[must_use]
    pub fn scheme(&self) -> Option<&'static str> {
        self.scheme.map(|scheme| scheme.name)
    }

    /// Whether the whole address is understood, so that a part of it is shown.
    #[must_use]
    pub const fn is_understood(&self) -> bool {
        self.shown.is_some()
    }

    /// Why nobody should connect to this address: most likely a part of the password stands where the host, the user or the database
    /// is looked for, and servers and resolvers would be asked for it. Says what to do instead.
    #[must_use]
    pub const fn ambiguity(&self) -> Option<&'static str> {
        self.ambiguity
    }

    /// Whether a text, a driver's message for example, quotes a part of the address that is not shown, in whatever form. Of an
    /// address without a known scheme nobody can tell the parts, so any text may.
    #[must_use]
    pub fn is_quoted_in(&self, text: &str) -> bool {
        let meant = percent_decoded(text);
        let quoted = |hidden: &String| text.contains(hidden.as_str()) || meant.contains(hidden.as_str());
        self.scheme.is_none() || self.hidden.iter().any(quoted)
    }

    /// An error and its sources in one line, where they quote nothing that is not shown.
    #[must_use]
    pub fn unless_quoted(&self, error: &(dyn std::error::Error + 'static)) -> Option<String> {
        // Not as an error shows itself alone: some repeat in `Debug` what they leave out in `Display`.
        let text = crate::error::chain(error);
        (!self.is_quoted_in(&text) && !self.is_quoted_in(&format!("{error:?}"))).then_some(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown.as_deref().unwrap_or(NOT_SHOWN))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A known scheme, and what follows its colon.
fn scheme(text: &str) -> Option<(Scheme, &str)> {
    let (name, rest) = text.split_once(':')?;
    let scheme = SCHEMES.iter().find(|scheme| scheme.name.eq_ignore_ascii_case(name))?;
    Some((*scheme, rest))
}

/// An address behind its scheme.
struct Parts<'a> {
    /// `//` stands before it.
    slashes: bool,
    user: Option<&'a str>,
    /// Hosts and ports; of a path nothing.
    hosts: &'a str,
    /// The database with the slash before it, or the path.
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
    /// All that follows the hosts.
    tail: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str, form: Form) -> Self {
        let (slashes, rest) = rest.strip_prefix("//").map_or((false, rest), |rest| (true, rest));
        let until = |text: &'a str, ends: &[char]| {
            text.find(ends).map_or((text, ""), |at| text.split_at_checked(at).unwrap_or((text, "")))
        };
        let (authority, tail) = if form == Form::Path { ("", rest) } else { until(rest, &['/', '?', '#']) };
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let (before, fragment) = tail.split_once('#').map_or((tail, None), |(before, rest)| (before, Some(rest)));
        let (path, query) = before.split_once('?').map_or((before, None), |(path, query)| (path, Some(query)));
        Self { slashes, user, hosts, path, query, fragment, tail }
    }

    fn ambiguity(&self, form: Form) -> Option<&'static str> {
        let user = self.user.filter(|user| !user.contains(':')).unwrap_or_default();
        if form == Form::Path {
            None
        } else if self.tail.contains('@') {
            Some(
                "the address has an `@` behind its host; write `/`, `?`, `#` and `@` in user, password and options \
                 as `%2F`, `%3F`, `%23` and `%40`",
            )
        } else if self.hosts.split(',').any(is_escaped) {
            Some("the address has an escape in its host; the `:` and the `@` around the password stand as they are")
        } else if user.contains("%3A") || user.contains("%3a") {
            Some("the address has an escaped `:` in its user; the `:` before the password stands as it is")
        } else if self.path.contains('=') {
            Some("the address has a `=` in its database; options begin with a `?`")
        } else {
            None
        }
    }

    /// What is shown of it, if all of it is as it should be.
    fn shown(&self, form: Form) -> Option<String> {
        let Self { slashes, user, hosts, path, fragment, .. } = *self;
        if form == Form::Path {
            let strict = path == ":memory:" || (!path.is_empty() && path.chars().all(is_path));
            let slashes = if slashes { "//" } else { "" };
            return (strict && fragment.is_none()).then(|| format!("{slashes}{path}"));
        }
        let database = path.strip_prefix('/').unwrap_or(path);
        let is_named = match form {
            Form::Numbered => database.bytes().all(|byte| byte.is_ascii_digit()),
            _ => database.chars().all(is_name),
        };
        // The driver's default host, or one that an option names.
        let is_local = form == Form::Named && hosts.is_empty() && user.is_none();
        let are_hosts = match form {
            Form::Hosts => hosts.split(',').all(is_host),
            _ => is_local || is_host(hosts),
        };
        let is_user = user.is_none_or(|user| !user.contains('@') && !user.chars().any(char::is_control));
        let is_fragment = fragment.is_none_or(|fragment| form == Form::Numbered && fragment == "insecure");
        let strict = slashes && is_named && are_hosts && is_user && is_fragment;
        (strict && !self.tail.contains('@')).then(|| format!("//{hosts}{path}"))
    }

    /// What must not stand in any message: of what is not understood also what should be hosts and a database.
    fn hidden(&self, understood: bool) -> Vec<String> {
        let user = self.user.into_iter().flat_map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            [user, name, password]
        });
        let options = self.query.into_iter().flat_map(|query| {
            let each = query.split('&').flat_map(|option| {
                let (name, value) = option.split_once('=').unwrap_or(("", option));
                [name, value]
            });
            std::iter::once(query).chain(each)
        });
        let places = [self.hosts, self.path].into_iter().filter(|_| !understood);
        let places = places.flat_map(|place| std::iter::once(place).chain(place.split(['/', ',', ':'])));
        let parts = user.chain(options).chain(places).chain(self.fragment.filter(|&fragment| fragment != "insecure"));
        let mut hidden = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            // URLs lose their tabs and line ends.
            let kept = part.replace(['\t', '\n', '\r'], "");
            for part in [part, &kept] {
                let meant = percent_decoded(part);
                let form = meant.replace('+', " ");
                // A part of it is quoted where it is taken apart elsewhere than here.
                let words = meant.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() >= WORD);
                hidden.extend(words.map(str::to_owned));
                let escaped = [&meant, &form].map(|meant| format!("{meant:?}").trim_matches('"').to_owned());
                hidden.extend([part.to_owned(), meant, form].into_iter().chain(escaped));
            }
        }
        hidden.retain(|hidden| !hidden.is_empty());
        hidden.sort_unstable();
        hidden.dedup();
        hidden
    }
}

/// Whether a host has escapes that it cannot need: the path of a socket and the zone of an IPv6 address may have some.
fn is_escaped(host: &str) -> bool {
    host.contains('%') && !host.starts_with('[') && !percent_decoded(host).starts_with('/')
}

/// A name, or an address in numbers, and perhaps a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((numbers, rest)) => {
            let strict = !numbers.is_empty() && numbers.bytes().all(|b| b.is_ascii_hexdigit() || b".:".contains(&b));
            if !strict {
                return false;
            }
            ("", rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("0")))
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, "0"));
            let strict = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if !strict {
                return false;
            }
            (host, Some(port))
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    host.len() <= 253 && port.is_some_and(is_port)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')
}

fn is_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | ' ' | '~')
}

/// `%41` is `A`; what is no such escape stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.split_at_checked(2).filter(|_| byte == b'%');
        let escaped = digits.and_then(|(digits, next)| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.contains('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, next))
        });
        let (byte, next) = escaped.unwrap_or((byte, after));
        bytes.push(byte);
        rest = next;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_is_shown_without_its_secrets() {
        for (text, shown) in [
            ("redis://127.0.0.1/", "redis://127.0.0.1/"),
            ("redis://app:hunter2@cache:6379/3", "redis://cache:6379/3"),
            ("REDISS://:hunter2@[2001:db8::1]:6380/#insecure", "rediss://[2001:db8::1]:6380/"),
            ("redis+unix:///run/redis.sock?db=1&pass=hunter2", "redis+unix:///run/redis.sock"),
            ("postgres://app:hunter2@db:5432/blog?password=hunter2", "postgres://db:5432/blog"),
            ("postgresql:///blog?host=/var/run/postgresql", "postgresql:///blog"),
            ("MariaDB://app:hunter2@db/blog", "mariadb://db/blog"),
            ("mysql://app:%2F%40@db", "mysql://db"),
            ("sqlite::memory:", "sqlite::memory:"),
            ("sqlite://data/blog.db?mode=rwc", "sqlite://data/blog.db"),
            ("mongodb://ann:hunter2@a:1,b:2/admin?w=1", "mongodb://a:1,b:2/admin"),
            ("mongodb+srv://ann:hunter2@cluster.example.net", "mongodb+srv://cluster.example.net"),
        ] {
            let address = Address::new(text);
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(format!("{address:?}"), shown);
            assert_eq!(address.ambiguity(), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_shown_of_what_is_not_understood() {
        for text in [
            "",
            "hunter2",
            "app:hunter2@127.0.0.1:6379",
            "hunter2://db/blog",
            "redis:app:hunter2@db",
            "redis//:hunter2@db",
            "redis://app:hunter2",
            "redis://db/hunter2",
            "redis://db:hunter2:6379/",
            "redis://db/0#hunter2",
            "redis://app:12#hunter2@db",
            "redis+unix:///run/redis.sock&pass=hunter2",
            "postgres://app:12/hunter2@db/blog",
            "postgres://app:hun@ter2@db/blog",
            "postgres://app:hunter2:db:5432/blog",
            "postgres://db,hunter2/blog",
            "mongodb://ann:12?hunter2@db",
            "sqlite://app:hunter2@db/blog",
            "redis ://app:hunter2@db",
            "redis://app%3Aa@hunter2?/%40db/0",
            "mysql://app%3Aa@hunter2",
        ] {
            let address = Address::new(text);
            assert_eq!((address.to_string().as_str(), address.is_understood()), (NOT_SHOWN, false), "{text}");
            let quoted = text.is_empty() || address.is_quoted_in(&format!("cannot use {text}"));
            assert!(quoted && (!text.contains("hunter2") || address.is_quoted_in("cannot use `hunter2`")), "{text}");
        }
    }

    #[test]
    fn a_password_where_something_else_is_looked_for_is_ambiguous() {
        for (text, ambiguous) in [
            ("redis://app:12#hunter2@db", true),
            ("redis://app:12?hunter2@db", true),
            ("postgres://app:12/hunter2@db/blog", true),
            ("postgres://app:a@b/hunter2@db/blog", true),
            ("mongodb://ann:12/hunter2@db", true),
            ("mongodb://ann%3Ahunter2%40db:27017/blog", true),
            ("redis://app:hunter2%40db", true),
            ("mongodb://ann%3Ahun,ter2#x%40db", true),
            ("mongodb://%2Ftmp%2Fmongodb-27017.sock/?w=1", false),
            ("postgres://[fe80::1%25eth0]:5432/blog", false),
            ("postgres://app%3ahunter2@db/blog", true),
            ("mysql://db/blog;password=hunter2", true),
            ("postgres://app%3Aby:hunter2@db/blog", false),
            ("postgres://app:hunter%3A2%40@db/blog?options=-c%20a%3D1", false),
            ("mongodb://ann:hunter2@db/?appName=a%40b", false),
            ("sqlite:///home/a=b/blog.db", false),
            ("postgres://app:hun@ter2@db/blog", false),
            ("sqlite:///home/me@work/blog.db", false),
            ("redis+unix:///run/me@work.sock", false),
            ("app:12/hunter2@db", false),
        ] {
            assert_eq!(Address::new(text).ambiguity().is_some(), ambiguous, "{text}");
        }
    }

    #[test]
    fn a_quotation_is_found_in_whatever_form() {
        let address = Address::new("postgres://app:a%22b@db/blog?options=-c%20x&password=p+q");
        for text in ["a%22b", "a\"b", "a\\\"b", "p+q", "p q", "`app`", "-c x"] {
            assert!(address.is_quoted_in(&format!("cannot use {text}")), "{text}");
        }
        for text in ["Connection refused", "db", "5432"] {
            assert!(!address.is_quoted_in(text), "{text}");
        }
    }
}
