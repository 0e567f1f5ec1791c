//! What an operator should know about a Redis, and what an engine must not start on.

use super::connection::Connection;
use crate::buffer::redis::server_info;
use crate::buffer::redis::server_info::{Facts, Version};
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::error::finding::Finding;

/// The oldest version that has all that is used.
const OLDEST: Version = Version(6, 2);

const SUBJECT: &str = "redis";

/// Asks the server and judges.
pub(super) async fn examine(connection: &Connection) -> Result<Vec<Finding>, BufferError> {
    let facts = match server_info::ask(connection).await {
        Ok(facts) => facts,
        Err(error) if error.kind() == BufferErrorKind::Misconfigured => {
            return Ok(vec![Finding::warning(
                "server-unknown",
                SUBJECT,
                format!(
                    "the server may not be asked about itself ({}); version, eviction policy and persistence are not \
                     checked, and a restart of it is told only by its cache of scripts being empty and by missing beats, and \
                     always counts as one that may have lost writes: allow `INFO`, or make sure that `maxmemory-policy` \
                     is `noeviction` or a `volatile-*`",
                    crate::error::chain(&error)
                ),
            )]);
        }
        Err(error) => return Err(error),
    };
    let settings = Settings {
        save: server_info::setting(connection, "save").await,
        appendfsync: server_info::setting(connection, "appendfsync").await,
    };
    Ok(judge(&facts, &settings))
}

/// What only `CONFIG GET` says; `None` where it is forbidden.
#[derive(Clone, Debug, Default)]
struct Settings {
    save: Option<String>,
    appendfsync: Option<String>,
}

fn judge(facts: &Facts, settings: &Settings) -> Vec<Finding> {
    let mut findings = kind(facts);
    findings.extend([eviction(facts), persistence(facts, settings), saving(facts)].into_iter().flatten());
    findings
}

/// Which server it is: what makes it unfit whatever it is set to.
fn kind(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(version) = facts.version().filter(|version| *version < OLDEST) {
        findings.push(Finding::fatal(
            "server-version",
            SUBJECT,
            format!("this is Redis {version}; {OLDEST} or newer is needed"),
        ));
    }
    if facts.get("cluster_enabled") == Some("1") {
        findings.push(Finding::fatal(
            "cluster",
            SUBJECT,
            "cluster mode is on, and `RedisBuffer` connects to one server; use a Redis without `cluster-enabled`",
        ));
    }
    if facts.get("role") == Some("slave") {
        let master = facts.get("master_host").unwrap_or("its master");
        findings.push(Finding::fatal(
            "replica",
            SUBJECT,
            format!("this is a replica, which takes no writes; connect to {master}"),
        ));
    }
    if facts.get("loading") == Some("1") {
        findings.push(Finding::fatal(
            "loading",
            SUBJECT,
            "the server is still loading its data; start when it is done",
        ));
    }
    findings
}

/// Whether the server could evict what is dirty.
fn eviction(facts: &Facts) -> Option<Finding> {
    let policy = facts.get("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))?;
    let cure = "set `maxmemory-policy` to `noeviction`, or to a `volatile-*` policy, which evicts only what has a TTL: \
                clean copies have one, and neither what is dirty nor what workers need has any";
    Some(match facts.number("maxmemory") {
        Some(0) => Finding::warning(
            "eviction-policy",
            SUBJECT,
            format!(
                "`maxmemory-policy` is `{policy}`; while `maxmemory` is 0 nothing is evicted, but once it is set, \
                 acknowledged writes could be, before they reach the sink: {cure}"
            ),
        ),
        _ => Finding::fatal(
            "eviction-policy",
            SUBJECT,
            format!(
                "`maxmemory-policy` is `{policy}`: a full server would evict acknowledged writes before they reach \
                 the sink; {cure}"
            ),
        ),
    })
}

/// What a crash of the server costs.
fn persistence(facts: &Facts, settings: &Settings) -> Option<Finding> {
    if facts.get("aof_enabled")? == "1" {
        let lost = match settings.appendfsync.as_deref() {
            Some("always") => return None,
            Some("no") => {
                "a crash of the machine can lose what the operating system has not written yet, up to half a minute of \
                 acknowledged writes"
            }
            // While a sync runs, Redis holds its writes to the file back, for two seconds at most.
            _ => "a crash of the machine, or of Redis alone, can lose up to two seconds of acknowledged writes",
        };
        let text = format!(
            "{lost}; `appendfsync always` or `Durability::Fsync` prevents it, at the price of a sync for each group of \
             writes"
        );
        return Some(Finding::note("persistence", SUBJECT, text));
    }
    let lost = match settings.save.as_deref() {
        Some("") => "everything that has not reached the sink",
        _ => "everything since its last snapshot that has not reached the sink",
    };
    let text = format!(
        "`appendonly` is off: a restart of Redis loses {lost}; set `appendonly yes` to keep acknowledged writes"
    );
    Some(Finding::warning("persistence", SUBJECT, text))
}

/// Whether the server fails to save now.
fn saving(facts: &Facts) -> Option<Finding> {
    let failing = ["rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status"];
    let failed = failing.into_iter().find(|name| facts.get(name).is_some_and(|status| status != "ok"))?;
    let text = format!("the server could not write to its disk lately (`{failed}`); it may refuse writes: see its log");
    Some(Finding::warning("saving", SUBJECT, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::finding::Severity;

    const SOUND: &str = "redis_version:7.0.15\ncluster_enabled:0\nrole:master\nloading:0\nmaxmemory:0\n\
                         maxmemory_policy:noeviction\naof_enabled:1\nrdb_last_bgsave_status:ok";

    /// The findings of a sound server with these lines changed.
    fn found(changes: &[&str], settings: &Settings) -> Vec<(&'static str, Severity)> {
        let text = changes.iter().fold(SOUND.to_owned(), |text, change| format!("{text}\n{change}"));
        judge(&Facts::parse(&text), settings).iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn p10_what_could_evict_dirty_records_is_fatal() {
        let always = Settings { save: None, appendfsync: Some("always".into()) };
        for (changes, expected) in [
            (&[][..], None),
            (&["maxmemory:100", "maxmemory_policy:noeviction"], None),
            (&["maxmemory:100", "maxmemory_policy:volatile-lru"], None),
            (&["maxmemory:100", "maxmemory_policy:volatile-ttl"], None),
            (&["maxmemory:100", "maxmemory_policy:allkeys-lru"], Some(("eviction-policy", Severity::Fatal))),
            (&["maxmemory:100", "maxmemory_policy:allkeys-random"], Some(("eviction-policy", Severity::Fatal))),
            (&["maxmemory:0", "maxmemory_policy:allkeys-lfu"], Some(("eviction-policy", Severity::Warning))),
            (&["redis_version:6.0.9"], Some(("server-version", Severity::Fatal))),
            (&["redis_version:6.2.0"], None),
            (&["cluster_enabled:1"], Some(("cluster", Severity::Fatal))),
            (&["role:slave", "master_host:a"], Some(("replica", Severity::Fatal))),
            (&["loading:1"], Some(("loading", Severity::Fatal))),
            (&["rdb_last_bgsave_status:err"], Some(("saving", Severity::Warning))),
            (&["aof_enabled:0"], Some(("persistence", Severity::Warning))),
        ] {
            assert_eq!(found(changes, &always), expected.into_iter().collect::<Vec<_>>(), "{changes:?}");
        }
    }

    #[test]
    fn what_a_crash_costs_is_said() {
        let say = |aof: &str, save: Option<&str>, appendfsync: Option<&str>| {
            let facts = Facts::parse(&format!("aof_enabled:{aof}"));
            let settings = Settings { save: save.map(str::to_owned), appendfsync: appendfsync.map(str::to_owned) };
            persistence(&facts, &settings).map(|finding| finding.text).unwrap_or_default()
        };
        assert!(say("1", None, Some("everysec")).contains("or of Redis alone, can lose up to two seconds"));
        assert!(say("1", None, Some("no")).contains("half a minute"));
        assert!(say("1", None, None).contains("or of Redis alone, can lose up to two seconds"), "CONFIG is forbidden");
        assert_eq!(say("1", None, Some("always")), "");
        assert!(say("0", Some(""), None).contains("loses everything that has not"));
        assert!(say("0", Some("3600 1"), None).contains("since its last snapshot"));
    }
}
