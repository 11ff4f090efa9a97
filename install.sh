#!/bin/bash
# Installs, upgrades and removes cni-repair. kubelet may start the plugin at any moment, so each
# version is built and tried in a directory of its own; one rename then puts it into service.
set -euo pipefail
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
unset "${!PYTHON@}" "${!GIT@}" # PIP_* stay: they may say where this machine's package index is

DEFAULT_BIN_DIR=/opt/cni/bin
COMMAND_LINK=/usr/local/sbin/cni-repair
PACKAGE_PREFIX=/usr/lib/cni-repair # of the .deb and the .rpm
# What is made from the version's parser: in its share/, and linked from here.
MAN_PAGE=man/man8/cni-repair.8
COMPLETION=bash-completion/completions/cni-repair
BILL=cni-repair.cdx.json # of materials, in the version's share/ alone
SHARE_DIR=/usr/local/share
STATE_DIR=/var/lib/cni-repair
RUN_DIR=/run/cni-repair
WATCH_UNIT=cni-repair-watch.service
UNIT_FILE=/etc/systemd/system/$WATCH_UNIT
WATCH_CONFIG=/etc/cni-repair/watch.yaml
SOURCE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

ACTION=install
PREFIX=/opt/cni-repair
BIN_DIR="" # where the runtime looks, unless it is given
WHEELS=""
WATCH=""
PURGE=""
FORCE=""
CONF_DIRS=()
GIVEN="" # the options seen, to refuse those that do not go together

PYTHON="" # the interpreter that the versions are built on
WORK=""   # our temporary directory
CHILD=""  # the command that is running, and its process group
LOCKED="" # we hold the prefix's lock
NEW=""    # the version directory being built

usage() {
    cat <<'EOF'
Usage: sudo ./install.sh [--watch] [--prefix DIR] [--bin-dir DIR] [--wheels DIR]
       sudo ./install.sh --demo [--wheels DIR]
       sudo ./install.sh --uninstall [--purge] [--force] [--conf-dir DIR]...
                                     [--prefix DIR] [--bin-dir DIR]

Installs the CNI plugin and command cni-repair; run again, upgrades it, and restarts its watcher
where one runs.

  --watch        have systemd run `cni-repair watch`, now and after every boot, by the configuration
                 /etc/cni-repair/watch.yaml; made from conf/watch.yaml where there is none
  --prefix DIR   where versions of it live (default /opt/cni-repair)
  --bin-dir DIR  where the container runtime looks for plugins (default: as containerd's, k3s',
                 rke2's or CRI-O's configuration says, else /opt/cni/bin; it says what it chose)
  --wheels DIR   install from the wheels in DIR, with no package index: they are taken as they are.
                 To make DIR, on a machine that has an index and the same Python:
                   python3 -m pip wheel -w DIR --require-hashes -r conf/requirements.lock
                   python3 -m pip wheel -w DIR --no-deps .
  --demo         show the repair of a throwaway node's pods; nothing is installed on this node
                 but the Debian packages that the demo needs
  --uninstall    remove cni-repair; the checkpoints in /var/lib/cni-repair stay. Refused (exit
                 status 3) while a network configuration names cni-repair, or a living pod was
                 attached by it: cni-repair help back-out
  --conf-dir DIR with --uninstall: a directory of network configurations, to be looked at beside
                 /etc/cni/net.d and /etc/cni/multus/net.d; may be given more than once
  --purge        with --uninstall: remove the checkpoints, too
  --force        with --uninstall: remove it whatever still needs it
  --help         this text
EOF
}

say() {
    printf '%s\n' "$*"
}

complain() { # WHAT REMEDY
    printf 'install.sh: %s: %s\n' "$1" "$2" >&2
}

fail() { # WHAT REMEDY
    complain "$@"
    exit 1
}

refuse() { # WHAT REMEDY
    complain "$@"
    exit 3
}

fail_usage() { # WHAT [REMEDY]
    complain "$1" "${2:-see --help}"
    exit 2
}

# --- Arguments -----------------------------------------------------------------------------------

parse_arguments() {
    while (($#)); do
        GIVEN+=" $1 "
        case $1 in
        --prefix | --bin-dir | --wheels | --conf-dir)
            (($# > 1)) || fail_usage "$1 needs a directory"
            set_directory "$1" "$2"
            shift
            ;;
        --demo | --uninstall) ACTION=${1#--} ;;
        --watch) WATCH=yes ;;
        --purge) PURGE=yes ;;
        --force) FORCE=yes ;;
        --help | -h)
            usage
            exit
            ;;
        *) fail_usage "unknown argument '$1'" ;;
        esac
        shift
    done
    check_combination
    check_directories
}

set_directory() { # OPTION DIR
    [[ $2 == /* ]] || fail_usage "$1 '$2'" "give an absolute path"
    case $1 in
    --prefix) PREFIX=$2 ;;
    --bin-dir) BIN_DIR=$2 ;;
    --wheels) WHEELS=$2 ;;
    --conf-dir) CONF_DIRS+=("$2") ;;
    esac
}

check_combination() {
    local option
    for option in --purge --force --conf-dir; do
        [[ $GIVEN != *" $option "* || $ACTION == uninstall ]] ||
            fail_usage "$option" "goes with --uninstall only"
    done
    [[ ! $WATCH || $ACTION == install ]] || fail_usage "--watch" "goes with an installation only"
    case "$ACTION $GIVEN" in
    *" --demo "*" --uninstall "* | *" --uninstall "*" --demo "*)
        fail_usage "--demo with --uninstall" "give one of them"
        ;;
    "demo "*" --prefix "* | "demo "*" --bin-dir "*)
        fail_usage "--demo" "leave out --prefix and --bin-dir: it uses directories of its own"
        ;;
    "uninstall "*" --wheels "*) fail_usage "--uninstall" "leave out --wheels" ;;
    esac
}

check_directories() {
    [[ -z $WHEELS || -d $WHEELS ]] || fail_usage "--wheels '$WHEELS'" "no such directory"
    local directory
    for directory in "${CONF_DIRS[@]}"; do
        [[ -d $directory ]] || fail_usage "--conf-dir '$directory'" "no such directory"
    done
    # One spelling for each path from here on: they are compared, and written into launchers.
    PREFIX=$(realpath -m -- "$PREFIX")
    check_characters --prefix "$PREFIX"
    [[ -z $BIN_DIR ]] || check_bin_dir
}

check_bin_dir() {
    BIN_DIR=$(realpath -m -- "$BIN_DIR")
    check_characters --bin-dir "$BIN_DIR"
    [[ "$BIN_DIR/" != "$PREFIX/"* ]] ||
        fail_usage "--bin-dir '$BIN_DIR'" "choose a directory outside the prefix $PREFIX"
}

check_characters() { # OPTION DIR
    [[ $2 =~ ^/[A-Za-z0-9._/+-]+$ ]] ||
        fail_usage "$1 '$2'" "use only letters, digits and . _ + - /, as a #! line must hold it"
}

# --- Commands that take long ---------------------------------------------------------------------

# In the background and in a process group of its own: bash acts on a signal only when its
# foreground command ends, and what pip and apt started must end with them.
run() { # COMMAND...
    local status=0
    set -m
    "$@" <&0 &
    CHILD=$!
    set +m
    wait "$CHILD" || status=$?
    CHILD=""
    return "$status"
}

quietly() { # COMMAND...; its output is shown only if it fails
    run "$@" >"$WORK/log" 2>&1 || {
        cat -- "$WORK/log" >&2
        return 1
    }
}

on_signal() { # NAME
    trap 'kill -KILL -- "-$CHILD"' INT TERM HUP # the second one is for a child that hangs
    if [[ -n $CHILD ]]; then
        kill "-$1" -- "-$CHILD" 2>/dev/null || true
        wait "$CHILD" || true
    fi
    exit $((128 + $(kill -l "$1")))
}

clean_up() {
    trap '' INT TERM HUP
    if [[ -n $NEW && $(version_of "$BIN_DIR/cni-repair") != "$NEW" ]]; then
        remove_version "$NEW" || true
    fi
    [[ -z $LOCKED ]] || remove_prefix_if_empty || true
    [[ -z $WORK ]] || rm -rf -- "$WORK"
}

make_work_directory() {
    WORK=$(realpath -- "$(mktemp -d -t cni-repair-install.XXXXXXXXXX)")
    export TMPDIR=$WORK # a pip that is killed leaves its own behind
}

# --- What must be there --------------------------------------------------------------------------

have() { # COMMAND
    [[ -x $(command -v -- "$1") ]] # it also finds files that cannot be run
}

apt_install() { # PACKAGE...
    say "installing Debian packages: $*"
    # One unreachable source need not matter: whether the packages can be had decides.
    quietly apt-get -q update || true
    quietly env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        --no-install-recommends install "$@" ||
        fail "apt-get cannot install $*" "see above; install them and run this again"
}

python_runs() { # PYTHON
    [[ -x $1 ]] && "$1" -IS -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

python_makes_venvs() { # PYTHON
    python_runs "$1" && "$1" -I -c 'import venv' 2>/dev/null && [[ $(pip_wheel_of "$1") ]]
}

# Python comes with pip's wheel, for ensurepip; Debian has it in another place than Python itself.
pip_wheel_of() { # PYTHON; prints nothing where it has none
    "$1" -I -c '
import ensurepip, glob, os, sysconfig
places = sysconfig.get_config_var("WHEEL_PKG_DIR"), f"{os.path.dirname(ensurepip.__file__)}/_bundled"
names = [f"{place}/pip-{ensurepip.version()}-*.whl" for place in places if place]
print(next(file for name in names for file in glob.glob(name)))' 2>/dev/null || true
}

# The distribution's own first, by path: PATH may lead to a shim that kubelet does not have.
find_python() { # TEST
    local directory python
    for directory in /usr/bin /usr/local/bin; do
        for python in "$directory"/python3 "$directory"/python3.{19..10}; do
            if "$1" "$python"; then
                PYTHON=$python
                return
            fi
        done
    done
    return 1
}

need_python() {
    ! find_python python_makes_venvs || return 0
    have apt-get ||
        fail "no Python 3.10 or newer with venv in /usr/bin or /usr/local/bin" \
            "install it (Debian: python3 python3-venv; RHEL: python3.11)"
    apt_install python3 python3-venv
    find_python python_makes_venvs ||
        fail "this distribution's python3 is older than 3.10, or has no venv" \
            "install a newer one in /usr/local/bin"
}

# The directory that this node's runtime takes plugins from, by the modules beside this script, where
# none is given.
choose_bin_dir() {
    local said=() note
    if [[ -d $SOURCE/cni_repair ]] && { [[ $PYTHON ]] || find_python python_runs; }; then
        mapfile -t said < <(ask_modules cni_repair.placing.runtimes)
    fi
    BIN_DIR=${said[0]:-$DEFAULT_BIN_DIR}
    check_bin_dir
    [[ $ACTION == install ]] || return 0
    say "plugin directory: $BIN_DIR (${said[1]:-the usual one}); --bin-dir takes another"
    for note in "${said[@]:2}"; do
        complain "$note" "if $BIN_DIR is not where the runtime looks, give --bin-dir"
    done
}

# Runs the main() of a module of the checkout's.
ask_modules() { # MODULE ARGUMENT...
    "$PYTHON" -ISB -c 'import importlib, sys
sys.path.insert(0, sys.argv.pop(1))
sys.exit(importlib.import_module(sys.argv.pop(1)).main(sys.argv[1:]))' "$SOURCE" "$@"
}

need_demo_packages() {
    local missing=()
    [[ -x /usr/lib/cni/macvlan && -x /usr/lib/cni/host-local ]] ||
        [[ -x $DEFAULT_BIN_DIR/macvlan && -x $DEFAULT_BIN_DIR/host-local ]] ||
        missing+=(containernetworking-plugins)
    have ip || missing+=(iproute2)
    have ping || missing+=(iputils-ping)
    ((${#missing[@]})) || return 0
    have apt-get ||
        fail "the demo lacks ${missing[*]}" \
            "install these Debian packages' equivalents (RHEL: containernetworking-plugins iproute iputils)"
    apt_install "${missing[@]}"
}

# --- The prefix: versions/NAME/ each whole, current -> versions/NAME, .lock ------------------------

# The name of something in the prefix that is not ours; empty if all is.
foreign_entry() {
    find "$PREFIX" -mindepth 1 -maxdepth 1 \
        ! -name versions ! -name current ! -name .lock -print -quit
    [[ ! -d $PREFIX/versions ]] ||
        find "$PREFIX/versions" -mindepth 1 -maxdepth 1 -regextype posix-extended \
            ! -regex '.*/[0-9][A-Za-z0-9.+]*-[0-9]{8}T[0-9]{6}Z-[0-9]+' -print -quit
}

check_prefix_free_or_ours() {
    [[ -e $PREFIX ]] || return 0
    [[ -d $PREFIX ]] || fail "$PREFIX is not a directory" "choose another --prefix"
    local foreign
    foreign=$(foreign_entry)
    [[ -z $foreign ]] ||
        fail "$PREFIX holds something else (${foreign%%$'\n'*})" "choose another --prefix"
}

lock_prefix() {
    until [[ $LOCKED ]]; do
        mkdir -p -- "$PREFIX" || fail "cannot make $PREFIX" "choose another --prefix"
        exec 9<>"$PREFIX/.lock" || fail "cannot open $PREFIX/.lock" "see above; then run this again"
        flock -n 9 || {
            say "waiting for another install.sh to finish with $PREFIX"
            run flock 9
        }
        # Again if an uninstall that we waited for has removed the file that we have locked.
        [[ ! $PREFIX/.lock -ef /proc/self/fd/9 ]] || LOCKED=yes
    done
}

remove_prefix_if_empty() {
    [[ ! -d $PREFIX/versions ]] || rmdir -- "$PREFIX/versions" 2>/dev/null || return 0
    rm -f -- "$PREFIX/current" "$PREFIX/.lock"
    LOCKED="" # from here on the prefix may be another install.sh's
    rmdir --ignore-fail-on-non-empty -- "$PREFIX"
}

# The version directory that a launcher runs; nothing for a file which is not our launcher.
version_of() { # FILE
    local line=""
    [[ ! -f $1 ]] || IFS= read -r -n 127 line <"$1" || true
    [[ $line != '#!/'*/versions/*'/bin/python3 -IS' ]] || printf '%s' "${line:2:-16}"
}

launchers_of() { # VERSION-DIR; the paths that its launchers have, or would have, a line each
    [[ ! -f $1/bin-dir ]] || sed 's|$|/cni-repair|' "$1/bin-dir"
}

remove_version() { # VERSION-DIR
    local launcher
    while IFS= read -r launcher; do
        rm -f -- "${launcher%/*}/.cni-repair-${1##*/}" # one that was not put in place
    done < <(launchers_of "$1")
    rm -rf --one-file-system -- "$1"
}

# In service (another --bin-dir may have its own), or still run by a long command such as `watch`,
# which imports modules when it first needs them.
in_use() { # VERSION-DIR
    local launcher
    while IFS= read -r launcher; do
        [[ $(version_of "$launcher") != "$1" ]] || return 0
    done < <(launchers_of "$1")
    [[ $(running "$1") ]]
}

# Prints the PID of each process that runs a version at, or below, a directory. Which one that is,
# only its first word says: root's are believed (as by cni_repair/placing/puts.py, which says why).
# Another mount namespace may have a directory of that name.
running() { # DIRECTORY
    local file pid program
    for file in /proc/[0-9]*/cmdline; do
        pid=${file//[!0-9]/}
        program=""
        { IFS= read -r -d '' program <"$file" || true; } 2>/dev/null
        if [[ $program == "$1"/*bin/python3 && "/proc/$pid/root$1" -ef $1 ]] &&
            grep -qs $'^Uid:\t0\t' "/proc/$pid/status"; then
            echo "$pid"
        fi
    done
}

# All but the new version and the one before, from which a plugin process may have just started.
# Versions that an earlier run left half-built go as well.
remove_old_versions() { # PREVIOUS-VERSION-DIR
    local version
    for version in "$PREFIX"/versions/*; do
        [[ $version == "$NEW" || $version == "$1" ]] || in_use "$version" ||
            remove_version "$version"
    done
}

# --- Building and switching ----------------------------------------------------------------------

source_version() {
    sed -n 's/^__version__[^"]*"\([0-9][A-Za-z0-9.+]*\)"$/\1/p' "$SOURCE/cni_repair/__init__.py"
}

name_new_version() {
    local version
    version=$(source_version)
    [[ $version ]] ||
        fail "no version in $SOURCE/cni_repair" "run install.sh from a complete checkout"
    NEW=$PREFIX/versions/$version-$(date -u +%Y%m%dT%H%M%SZ)-$$
    local shebang="#!$NEW/bin/python3 -IS"
    ((${#shebang} <= 127)) ||
        fail_usage "'$PREFIX' is too long" \
            "choose a prefix $((${#shebang} - 127)) characters shorter: a #! line has 127 at most"
}

build_environment() {
    mkdir -p -- "$NEW"
    local directories=("$BIN_DIR")
    ! is_left_in_default || directories+=("$DEFAULT_BIN_DIR")
    printf '%s\n' "${directories[@]}" >"$NEW/bin-dir"
    quietly "$PYTHON" -I -m venv --without-pip "$NEW" ||
        fail "$PYTHON cannot make a virtual environment in $NEW" "see above"
    # Nothing at run time needs pip: it stays outside.
    quietly "$PYTHON" -I -m zipfile -e "$(pip_wheel_of "$PYTHON")" "$WORK/pip" ||
        fail "cannot unpack pip in $WORK" "see above"
    if [[ $WHEELS ]]; then
        install_wheels
    else
        install_source
    fi
    write_commit
    quietly "$NEW/bin/python3" -I -m compileall -q "$(site_packages)" ||
        fail "cannot byte-compile $NEW" "see above"
    quietly "$NEW/bin/python3" -I -X no_debug_ranges -m cni_repair.base.packing ||
        fail "cannot pack the modules in $NEW" "see above"
    make_share "$MAN_PAGE" manpage
    make_share "$COMPLETION" completion
    make_share "$BILL" sbom
}

# What --version shows. Wheels may be of another commit with the same version: only where the
# checkout's files are what was installed, they are its commit's.
write_commit() {
    local package commit
    package=$(site_packages)/cni_repair
    commit=$(source_commit)
    if [[ $commit ]] && diff -rq -x __pycache__ -x README.md "$SOURCE/cni_repair" "$package" >/dev/null; then
        printf '%s\n' "$commit" >"$package/COMMIT"
    fi
}

source_commit() { # prints nothing where this is no checkout, or another user's
    have git && [[ -e $SOURCE/.git ]] || return 0
    local git=(git --no-optional-locks -C "$SOURCE") commit changes
    commit=$("${git[@]}" rev-parse --short HEAD 2>/dev/null) || return 0
    changes=$("${git[@]}" status --porcelain 2>/dev/null) || return 0
    printf '%s%s' "$commit" "${changes:+, dirty}"
}

make_share() { # NAME MODULE
    mkdir -p -- "$(dirname -- "$NEW/share/$1")"
    run "$NEW/bin/python3" -I -m "cni_repair.cli.$2" >"$NEW/share/$1" ||
        fail "cannot make $NEW/share/$1" "see above"
}

pip() { # COMMAND ARGUMENT...
    quietly "$NEW/bin/python3" -I "$WORK/pip/pip" "$@" --no-input --disable-pip-version-check
}

pip_install() { # ARGUMENT...
    pip install --no-compile --progress-bar off "$@"
}

# What the lock pins, and nothing that has another hash. Then cni-repair, built by the lock's own
# setuptools, from a copy: a build leaves files behind, and the checkout may be read-only.
install_source() {
    local lock=$SOURCE/conf/requirements.lock
    [[ -f $lock ]] || fail "no $lock" "run install.sh from a complete checkout"
    pip_install --require-hashes -r "$lock" ||
        fail "pip cannot install what $lock pins" \
            "see above; without a package index use --wheels (see --help)"
    mkdir -- "$WORK/source"
    tar -C "$SOURCE" --exclude=__pycache__ -cf - pyproject.toml README.md LICENSE cni_repair |
        tar -C "$WORK/source" --no-same-owner -xf - ||
        fail "cannot copy $SOURCE" "see above; run install.sh from a complete checkout"
    pip_install --no-deps --no-build-isolation "$WORK/source" ||
        fail "pip cannot install cni-repair" "see above"
    pip uninstall -y setuptools || fail "cannot remove setuptools from $NEW" "see above"
}

install_wheels() {
    # Isolated from PIP_* and configuration files, which could name an index or other wheels.
    PIP_CONFIG_FILE=/dev/null pip_install --isolated --no-index --only-binary :all: \
        --find-links "$WHEELS" "cni-repair==$(source_version)" ||
        fail "pip cannot install cni-repair $(source_version) from $WHEELS" \
            "make the wheels anew from this checkout, for $("$PYTHON" -V) (see --help)"
}

site_packages() {
    "$NEW/bin/python3" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

write_launcher() {
    run "$NEW/bin/python3" -I -m cni_repair.placing.launcher "$NEW/bin/python3" "$(site_packages)" \
        >"$NEW/cni-repair" || fail "cannot make the launcher in $NEW" "see above"
    chmod 0755 -- "$NEW/cni-repair"
}

answers_version() { # LAUNCHER
    env -i CNI_COMMAND=VERSION timeout 30 "$1" <<<'{"cniVersion":"1.0.0"}' | "$PYTHON" -I -c '
import json, sys
answer = sys.stdin.read()
print(answer, flush=True)
sys.exit(not json.loads(answer)["supportedVersions"])'
}

switch_to_new() {
    # On disk before the name is: a power cut must not leave an empty plugin.
    sync -f "$NEW"
    mkdir -p -- "$BIN_DIR" || fail "cannot make $BIN_DIR" "choose another --bin-dir"
    put_launcher "$BIN_DIR"
    ! is_left_in_default || put_launcher "$DEFAULT_BIN_DIR"
    ln -s -- "versions/${NEW##*/}" "$NEW/current"
    mv -T -- "$NEW/current" "$PREFIX/current"
}

put_launcher() { # DIR
    local staged=$1/.cni-repair-${NEW##*/}
    install -m 0755 -T -- "$NEW/cni-repair" "$staged"
    sync "$staged"
    mv -T -- "$staged" "$1/cni-repair"
    sync "$1"
}

# Where it is the runtime's directory that was chosen, and an earlier install.sh has put a launcher
# into the usual one: a configuration or a service may name that.
is_left_in_default() {
    [[ $GIVEN != *" --bin-dir "* && $BIN_DIR != "$DEFAULT_BIN_DIR" ]] &&
        [[ $(version_of "$DEFAULT_BIN_DIR/cni-repair") == "$PREFIX/versions/"* ]]
}

check_launcher_free_or_ours() {
    local launcher=$BIN_DIR/cni-repair
    [[ ! -e $launcher && ! -L $launcher ]] || [[ $(version_of "$launcher") ]] ||
        fail "$launcher is not a launcher of ours" "move it away"
    [[ $(version_of "$launcher") != "$PACKAGE_PREFIX/"* ]] ||
        fail "$launcher is of the package cni-repair" "upgrade that package, or remove it first"
}

install_version() {
    name_new_version
    check_prefix_free_or_ours
    need_python
    [[ $BIN_DIR ]] || choose_bin_dir
    check_launcher_free_or_ours
    lock_prefix
    build_environment
    write_launcher
    quietly answers_version "$NEW/cni-repair" ||
        fail "the new version does not answer VERSION" "see above; nothing was changed"
    check_launcher_free_or_ours # the package may have been installed meanwhile
    local previous
    previous=$(version_of "$BIN_DIR/cni-repair")
    switch_to_new
    remove_old_versions "$previous"
}

# So that an engineer finds the command on PATH, its man page and its completion.
link_command() {
    local launcher=$BIN_DIR/cni-repair
    [[ $GIVEN != *" --bin-dir "* || $BIN_DIR == "$(realpath -m -- "$DEFAULT_BIN_DIR")" ]] || return 0
    if [[ ! -e $COMMAND_LINK && ! -L $COMMAND_LINK ]]; then
        mkdir -p -- "$(dirname -- "$COMMAND_LINK")"
        ln -s -- "$launcher" "$COMMAND_LINK"
    elif [[ $(readlink -- "$COMMAND_LINK") != "$launcher" ]]; then
        say "$COMMAND_LINK is not ours: left as it is"
        return 0
    fi
    link_share "$MAN_PAGE"
    link_share "$COMPLETION"
}

# A link to `current`: an upgrade need not touch it. One of another prefix is ours, too.
link_share() { # NAME
    local link=$SHARE_DIR/$1
    if [[ (! -e $link && ! -L $link) || $(readlink -- "$link") == */current/share/$1 ]]; then
        mkdir -p -- "$(dirname -- "$link")"
        ln -sfn -- "$PREFIX/current/share/$1" "$link"
    else
        say "$link is not ours: left as it is"
    fi
}

install_on_node() {
    make_work_directory
    [[ ! $WATCH ]] || check_watch_possible
    install_version
    link_command
    say "installed cni-repair $(source_version): $BIN_DIR/cni-repair, from $NEW"
    if [[ $WATCH ]]; then
        start_watch
    elif watch_is_ours && have_systemd; then
        upgrade_watch
    fi
}

# --- The watcher: a service of systemd's ------------------------------------------------------------

have_systemd() { # sd_booted(3)
    [[ -d /run/systemd/system ]] && have systemctl
}

check_watch_possible() {
    local program=${BIN_DIR:+$BIN_DIR/cni-repair}
    have_systemd ||
        refuse "--watch: systemd does not run here" "install without it, and have your own service \
manager run '${program:-$COMMAND_LINK} watch', and start it again whenever it ends"
    [[ -f $SOURCE/conf/systemd/$WATCH_UNIT && -f $SOURCE/conf/watch.yaml ]] ||
        fail "no conf/systemd/$WATCH_UNIT beside $SOURCE/install.sh" \
            "run install.sh from a complete checkout"
    [[ (! -e $UNIT_FILE && ! -L $UNIT_FILE) || $(watch_launcher) ]] ||
        fail "$UNIT_FILE is not ours" "move it away, or unmask it: systemctl unmask $WATCH_UNIT"
}

# The launcher that the installed service runs; nothing where there is none, or none of ours.
watch_launcher() {
    [[ ! -f $UNIT_FILE ]] || sed -n 's|^ExecStart=\(/.*/cni-repair\) watch .*|\1|p' "$UNIT_FILE"
}

watch_is_ours() {
    local launcher
    launcher=$(watch_launcher)
    [[ $launcher == "$BIN_DIR/cni-repair" ]] ||
        { is_left_in_default && [[ $launcher == "$DEFAULT_BIN_DIR/cni-repair" ]]; }
}

write_watch_unit() {
    sed "s|^ExecStart=[^ ]*|ExecStart=$BIN_DIR/cni-repair|" \
        "$SOURCE/conf/systemd/$WATCH_UNIT" >"$WORK/$WATCH_UNIT"
    mkdir -p -- "$(dirname -- "$UNIT_FILE")"
    install -m 0644 -T -- "$WORK/$WATCH_UNIT" "$UNIT_FILE"
    quietly systemctl daemon-reload || fail "systemd does not read $UNIT_FILE" "see above"
}

start_watch() {
    if [[ ! -e $WATCH_CONFIG && ! -L $WATCH_CONFIG ]]; then
        mkdir -p -- "$(dirname -- "$WATCH_CONFIG")"
        install -m 0644 -T -- "$SOURCE/conf/watch.yaml" "$WATCH_CONFIG"
    fi
    write_watch_unit
    quietly systemctl enable "$WATCH_UNIT" || fail "cannot enable $WATCH_UNIT" "see above"
    restart_watch restart
    say "cni-repair watch runs, by $WATCH_CONFIG: cni-repair watch --status shows what it sees"
}

# One that was stopped, or disabled, stays so.
upgrade_watch() {
    [[ -f $SOURCE/conf/systemd/$WATCH_UNIT ]] || return 0
    write_watch_unit
    restart_watch try-restart
}

restart_watch() { # restart | try-restart
    quietly systemctl "$1" "$WATCH_UNIT" || {
        systemctl status --no-pager --lines=20 "$WATCH_UNIT" >&2 || true
        fail "cni-repair is installed, but its watcher does not start" \
            "see above and in $WATCH_CONFIG; then: systemctl restart $WATCH_UNIT"
    }
}

remove_watch() {
    if have_systemd; then
        # It releases a kubelet that it holds, and ends.
        quietly systemctl disable --now "$WATCH_UNIT" ||
            complain "cannot stop $WATCH_UNIT" "see above"
    else
        find "$(dirname -- "$UNIT_FILE")" -name "$WATCH_UNIT" -type l -delete
    fi
    rm -f -- "$UNIT_FILE"
    ! have_systemd || quietly systemctl daemon-reload || true
    say "removed $WATCH_UNIT"
}

# --- Demo ----------------------------------------------------------------------------------------

demo() {
    make_work_directory
    need_demo_packages
    PREFIX=$WORK/prefix
    BIN_DIR=$WORK/bin
    check_characters TMPDIR "$WORK"
    say "setting up cni-repair $(source_version) in $WORK for the demo; it is removed afterwards"
    install_version
    run "$BIN_DIR/cni-repair" demo
}

# --- Uninstalling --------------------------------------------------------------------------------

# The launchers that run a version of this prefix, in whichever --bin-dir they were put.
launchers_of_prefix() {
    local version launcher
    {
        printf '%s\n' "$BIN_DIR/cni-repair" "$DEFAULT_BIN_DIR/cni-repair"
        for version in "$PREFIX"/versions/*/; do
            launchers_of "${version%/}"
        done
    } | sort -u | while IFS= read -r launcher; do
        [[ $(version_of "$launcher") != "$PREFIX/versions/"* ]] || printf '%s\n' "$launcher"
    done
}

# Which cni-repair a runtime calls, it takes from its plugin directory. Where another prefix has its
# launcher there, and this one has none anywhere, nothing is taken from the runtime.
another_serves() { # LAUNCHER...
    (($# == 0)) && [[ $(version_of "$BIN_DIR/cni-repair") ]]
}

# Prints a line for each process that runs a version of this prefix, such as `repair` or `watch`: it
# imports modules when it first needs them.
say_who_runs_it() {
    local pid words
    for pid in $(running "$PREFIX/versions"); do
        { words=$(tr '\0' ' ' <"/proc/$pid/cmdline"); } 2>/dev/null || continue # it has ended
        is_watch "$pid" || echo "PID $pid runs it ($words): wait for its end, or stop it"
    done
}

# The watcher's service is stopped before anything is removed.
is_watch() { # PID
    grep -qs "/$WATCH_UNIT\$" "/proc/$1/cgroup"
}

# Prints what still needs what is to be removed, a line each; its status is 3 then. By the modules
# beside this script: those of the installed version may be half gone.
what_needs_it() { # ARGUMENT...
    find_python python_runs || {
        echo "no Python 3.10 or newer in /usr/bin or /usr/local/bin to read configurations with"
        return 3
    }
    [[ -d $SOURCE/cni_repair ]] || {
        echo "no cni_repair beside $SOURCE/install.sh: run it from a complete checkout"
        return 3
    }
    ask_modules cni_repair.cli.removal "$@"
}

check_not_needed() { # ARGUMENT...
    local directory status=0 line
    for directory in "${CONF_DIRS[@]}"; do
        set -- "$@" --conf-dir "$directory"
    done
    say_who_runs_it >"$WORK/needed"
    what_needs_it "$@" >>"$WORK/needed" || status=$?
    ((status == 0 || status == 3)) ||
        echo "cannot tell what still needs cni-repair: see above" >>"$WORK/needed"
    while IFS= read -r line; do
        printf 'install.sh: %s%s\n' "${FORCE:+warning: }" "$line" >&2
    done <"$WORK/needed"
    [[ $FORCE || ! -s $WORK/needed ]] ||
        refuse "nothing was removed" \
            "cni-repair help back-out says in which order to go; --force removes it all the same"
}

remove_launcher() { # LAUNCHER
    rm -f -- "$1"
    if [[ -L $COMMAND_LINK && $(readlink -- "$COMMAND_LINK") == "$1" ]]; then
        rm -f -- "$COMMAND_LINK"
    fi
}

unlink_share() { # NAME
    [[ $(readlink -- "$SHARE_DIR/$1") != "$PREFIX/current/share/$1" ]] || rm -f -- "$SHARE_DIR/$1"
}

remove_prefix() {
    local version
    for version in "$PREFIX"/versions/*/; do
        remove_version "${version%/}"
    done
    remove_prefix_if_empty
}

remove_or_name_state() {
    local directory
    for directory in "$STATE_DIR" "$RUN_DIR" "$WATCH_CONFIG"; do
        if [[ ! -e $directory && ! -L $directory ]]; then
            continue
        elif [[ $PURGE ]]; then
            rm -rf --one-file-system -- "$directory"
            say "removed $directory"
        else
            say "kept $directory (--uninstall --purge removes it)"
        fi
    done
}

check_prefix_ours() {
    [[ -d $PREFIX/versions && -z $(foreign_entry) ]] ||
        fail "$PREFIX does not look like an installation of cni-repair" "remove it yourself"
}

uninstall() {
    make_work_directory
    [[ $BIN_DIR ]] || choose_bin_dir
    local launchers=() removed=()
    if [[ -e $PREFIX ]]; then
        check_prefix_ours
        lock_prefix
    fi
    mapfile -t launchers < <(launchers_of_prefix)
    if [[ $LOCKED ]] || ((${#launchers[@]})); then
        another_serves "${launchers[@]}" || removed+=(--plugin)
    fi
    [[ -z $PURGE ]] || removed+=(--records)
    ((${#removed[@]} == 0)) || check_not_needed "${removed[@]}"
    if [[ ! $LOCKED ]] && ((${#launchers[@]} == 0)); then
        say "cni-repair is not installed in $PREFIX"
    else
        remove_installation "${launchers[@]}"
    fi
    remove_or_name_state
}

# The watcher's condition on a node of Kubernetes: nobody would ever change it. (One before this knew
# nothing of it.)
take_condition() {
    ! imports_installed cni_repair.watch.kubernetes.withdrawal 2>/dev/null ||
        imports_installed cni_repair.watch.kubernetes.withdrawal main || true
}

# Imports a module of the version in service, and calls a function of it. The version's own launcher
# says from where: the bundle's Python finds nothing by itself.
imports_installed() { # MODULE [FUNCTION]
    local directories
    directories=$(sed -n 's/^sys\.path += //p' "$PREFIX/current/cni-repair") || return
    "$PREFIX/current/bin/python3" -IS -c 'import importlib, json, sys
sys.path += json.loads(sys.argv[1])
module = importlib.import_module(sys.argv[2])
sys.exit(getattr(module, sys.argv[3])() if sys.argv[3:] else 0)' "$directories" "$@"
}

remove_installation() { # LAUNCHER...
    local launcher
    for launcher in "$@"; do
        [[ $(watch_launcher) != "$launcher" ]] || remove_watch
    done
    take_condition
    for launcher in "$@"; do
        remove_launcher "$launcher"
    done
    unlink_share "$MAN_PAGE"
    unlink_share "$COMPLETION"
    [[ ! -d $PREFIX ]] || remove_prefix
    say "removed cni-repair from $PREFIX"
}

# --- Main ----------------------------------------------------------------------------------------

main() {
    parse_arguments "$@"
    ((EUID == 0)) || fail_usage "not root" "run it with sudo"
    shopt -s nullglob
    trap clean_up EXIT
    trap 'on_signal INT' INT
    trap 'on_signal TERM' TERM
    trap 'on_signal HUP' HUP
    case $ACTION in
    install) install_on_node ;;
    demo) demo ;;
    uninstall) uninstall ;;
    esac
}

main "$@"
