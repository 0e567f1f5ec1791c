//! What may happen in a storm: each fault has a name by which `WB_CHAOS_FAULTS` picks it.

/// Something that is done to processes, servers, connections or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillWorker,
    StopWorker,
    StopBeforeWrite,
    KillWriter,
    StopWriter,
    KillRedis,
    KillDatabase,
    CutRedis,
    CutDatabase,
    Delay,
    SilenceRedis,
    SilenceDatabase,
    Password,
    ReadOnly,
    NoReplicas,
    Full,
    DeleteKeys,
    WrongType,
    Topology,
    Shape,
}

impl Fault {
    pub(crate) const ALL: [Self; 20] = [
        Self::KillWorker,
        Self::StopWorker,
        Self::StopBeforeWrite,
        Self::KillWriter,
        Self::StopWriter,
        Self::KillRedis,
        Self::KillDatabase,
        Self::CutRedis,
        Self::CutDatabase,
        Self::Delay,
        Self::SilenceRedis,
        Self::SilenceDatabase,
        Self::Password,
        Self::ReadOnly,
        Self::NoReplicas,
        Self::Full,
        Self::DeleteKeys,
        Self::WrongType,
        Self::Topology,
        Self::Shape,
    ];

    /// Name, weight among the others, and what the report says.
    const fn facts(self) -> (&'static str, u32, &'static str) {
        match self {
            Self::KillWorker => ("kill-worker", 30, "workers killed"),
            Self::StopWorker => ("stop-worker", 10, "workers stopped beyond their lease"),
            Self::StopBeforeWrite => {
                ("stop-before-write", 15, "workers stopped beyond their lease right before a write")
            }
            Self::KillWriter => ("kill-writer", 10, "writers killed"),
            Self::StopWriter => ("stop-writer", 5, "writers stopped"),
            Self::KillRedis => ("kill-redis", 6, "kills of Redis"),
            Self::KillDatabase => ("kill-database", 4, "kills of the database"),
            Self::CutRedis => ("cut-redis", 10, "cuts of all connections to Redis"),
            Self::CutDatabase => ("cut-database", 10, "cuts of all connections to the database"),
            Self::Delay => ("delay", 8, "delays of all connections"),
            Self::SilenceRedis => ("silence-redis", 6, "times all connections to Redis fell silent, half open"),
            Self::SilenceDatabase => {
                ("silence-database", 4, "times all connections to the database fell silent, half open")
            }
            Self::Password => ("password", 5, "times the password was a wrong one for a while"),
            Self::ReadOnly => ("read-only", 5, "times the primary was a replica for a while"),
            Self::NoReplicas => ("no-replicas", 4, "times the primary wanted more replicas for a while"),
            Self::Full => ("full", 6, "times Redis was full under a volatile policy"),
            Self::DeleteKeys => ("delete-keys", 8, "times keys were deleted that hold nothing acknowledged"),
            Self::WrongType => ("wrong-type", 6, "keys of a wrong type for a while"),
            Self::Topology => ("topology", 5, "rolling deploys of another topology"),
            Self::Shape => ("shape", 6, "rolling deploys of another shape"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        self.facts().0
    }

    pub(crate) const fn weight(self) -> u32 {
        self.facts().1
    }

    /// What it is called in the report.
    pub(crate) const fn title(self) -> &'static str {
        self.facts().2
    }

    /// The faults of this run: those that `WB_CHAOS_FAULTS` names, else all of them.
    pub(crate) fn chosen() -> Vec<Self> {
        match std::env::var("WB_CHAOS_FAULTS").ok().filter(|names| !names.is_empty()) {
            Some(names) => named(&names).unwrap_or_else(|wrong| panic!("WB_CHAOS_FAULTS: {wrong}")),
            None => Self::ALL.to_vec(),
        }
    }
}

fn named(names: &str) -> Result<Vec<Fault>, String> {
    if names == "all" {
        return Ok(Fault::ALL.to_vec());
    }
    let known = || Fault::ALL.map(Fault::name).join(", ");
    let find = |name: &str| {
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        found.ok_or_else(|| format!("unknown fault `{name}`; there are {}, and `all`", known()))
    };
    names.split(',').map(str::trim).map(find).collect()
}

#[test]
fn faults_are_chosen_by_name() {
    assert_eq!(named("password, kill-redis"), Ok(vec![Fault::Password, Fault::KillRedis]));
    assert_eq!(named("all"), Ok(Fault::ALL.to_vec()));
    assert!(named("passwort").is_err_and(|text| text.contains("password")));
    let mut names = Fault::ALL.map(Fault::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Fault::ALL.len());
}
