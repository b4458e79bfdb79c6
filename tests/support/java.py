"""Java for tests: the documentation's programs, and the tools of Kafka's distribution that the stack does without.

What is fetched beside the stack's own jars is named by `jars.sha256`: the Eclipse compiler (the packaged runtime has no
`javac`) and Kafka's command line tools.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.kafka import bundled_java, fetch_jars, jar_folder

LIST = Path(__file__).with_name("jars.sha256")
COMPILER = ("org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-failOnWarning")
TOOLS = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
}


def command(*more: Path) -> list[str]:
    """`java` with everything that Kafka has, and `more`, on its class path; a main class follows."""
    own = fetch_jars(Path(sys.prefix) / "share/homeroom/test-jars", jars=LIST)
    path = ":".join([f"{fetch_jars(jar_folder())}/*", f"{own}/*", *map(str, more)])
    return [str(bundled_java() / "bin/java"), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", path]


def run_program(
    source: str, name: str, folder: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Compile a program of one file and run it. What the compiler has to say counts as a failure."""
    (folder / f"{name}.java").write_text(source)
    [clients] = fetch_jars(jar_folder()).glob("kafka-clients-*.jar")
    compiled = _run([*command(), *COMPILER, "-cp", str(clients), f"{name}.java"], folder, env)
    return compiled if compiled.returncode else _run([*command(folder), name], folder, env)


def _run(words: list[str], folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=dict(env), capture_output=True, text=True, check=False, timeout=120
    )


def write_tools(folder: Path) -> Path:
    """A folder for PATH with the tools of Kafka's distribution, under their own names."""
    folder.mkdir()
    for name, main in TOOLS.items():
        words = " ".join(f"'{word}'" for word in [*command(), main])
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)
    return folder
