#!/usr/bin/env python3
"""Runs the quickstart: an upstream, extauthz and Envoy with this folder's files; sends requests
and shows the answers. Runs until Ctrl-C, or exits after the requests if ONCE is set."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
PORTS = {  # each can be set by its environment variable
    name: int(os.environ.get(name, port))
    for name, port in {"ENVOY_PORT": 10000, "EXTAUTHZ_PORT": 9191, "ADMIN_PORT": 9192, "DASHBOARD_PORT": 9194, "UPSTREAM_PORT": 8080}.items()
}
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
TIMEOUT = 60  # seconds


def paint(text, code):
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


class Failure(Exception):
    """The demo cannot continue; the text says why."""


class Programs:
    """The programs of the demo, each with its output in a file."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.running = []

    def start(self, name, *command):
        # In a session of its own, so that Ctrl-C reaches only this process, which stops them in order.
        log = open(self.folder / f"{name}.log", "wb")
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.running.append((name, program))

    def check(self):
        for name, program in self.running:
            if program.poll() is not None:
                raise Failure(f"{name} exited with {program.returncode}; its last output:\n{self.tail(name)}")

    def tail(self, name):
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-15:])

    def stop(self):
        for again in range(2):  # at the second signal extauthz stops without draining
            for _, program in reversed(self.running):
                program.terminate()
            time.sleep(0.2)
        for _, program in self.running:
            try:
                program.wait(10)
            except subprocess.TimeoutExpired:
                program.kill()


def check_ports():
    for name, port in PORTS.items():
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError as e:
                raise Failure(f"port {port} cannot be used ({e.strerror}): stop what listens there, or set {name} to another one") from e


def start(programs):
    check_ports()
    # The files are used as they are, apart from the ports that are set.
    config = (HERE / "envoy.yaml").read_text()
    for written, name in (10000, "ENVOY_PORT"), (9191, "EXTAUTHZ_PORT"), (8080, "UPSTREAM_PORT"):
        config = config.replace(f"port_value: {written}}}", f"port_value: {PORTS[name]}}}")
    (programs.folder / "envoy.yaml").write_text(config)
    local = {name: f"127.0.0.1:{port}" for name, port in PORTS.items()}
    programs.start("upstream", TOP / "bin/upstream", "-listen", local["UPSTREAM_PORT"])
    # Copies: the dashboard changes keys, and usage is recorded.
    (programs.folder / "keys.yaml").write_text((HERE / "keys.yaml").read_text())
    configuration = programs.folder / "extauthz.yaml"
    configuration.write_text((HERE / "extauthz.yaml").read_text())
    programs.start(
        "extauthz", TOP / "bin/extauthz", "serve", "--config", configuration,
        "--listen", local["EXTAUTHZ_PORT"], "--admin", local["ADMIN_PORT"],
    )  # fmt: skip
    programs.start("dashboard", TOP / "bin/extauthz", "dashboard", "--config", configuration, "--listen", local["DASHBOARD_PORT"])
    programs.start(
        "envoy", TOP / ".tools/envoy", "--config-path", programs.folder / "envoy.yaml",
        "--disable-hot-restart", "--log-level", "warning",
    )  # fmt: skip


def send(headers, source="127.0.0.1"):
    """Sends a request from one of this machine's loopback addresses."""
    connection = http.client.HTTPConnection("127.0.0.1", PORTS["ENVOY_PORT"], timeout=10, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request("GET", "/hello", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def await_envoy(programs):
    """Waits until Envoy refuses a request without a key, which takes a decision by extauthz."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        programs.check()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if send({})[0] == 401:
                return
        if time.monotonic() > deadline:
            raise Failure(f"Envoy is not ready after {TIMEOUT} s; its last output:\n{programs.tail('envoy')}")
        time.sleep(0.05)


def key(secret, **more):
    return {"x-api-key": secret, **more}


# The requests: a description, headers, source address, and the expected answer.
REQUESTS = [
    ("a key, from an address in its whitelist", key("demo_listed"), "127.0.0.1", "200"),
    ("the same key, from another address", key("demo_listed"), "127.0.0.2", "403 FORBIDDEN"),
    ("… which claims x-forwarded-for: 127.0.0.1", key("demo_listed", **{"x-forwarded-for": "127.0.0.1"}), "127.0.0.2", "403 FORBIDDEN"),
    ("a key for other addresses", key("demo_elsewhere"), "127.0.0.1", "403 FORBIDDEN"),
    ("a key without a whitelist", key("demo_anywhere"), "127.0.0.2", "200"),
    ("no key", {}, "127.0.0.1", "401 MISSING_KEY"),
    ("an unknown key", key("demo_guess"), "127.0.0.1", "401 NOT_FOUND"),
    ("a disabled key", key("demo_disabled"), "127.0.0.1", "401 DISABLED"),
    ("an expired key", key("demo_expired"), "127.0.0.1", "401 EXPIRED"),
]


def show_requests():
    print(f"{'request':44}{'x-api-key':18}{'from':12}answer")
    bodies = {}
    wrong = 0
    for what, headers, source, want in REQUESTS:
        status, body = send(headers, source)
        got = str(status) if status == 200 else f"{status} {json.loads(body)['data']['code']}"
        bodies.setdefault(got, body)
        line = paint(got, "32" if status == 200 else "31")
        if got != want:
            wrong += 1
            line += f"  (expected {want})"
        print(f"{what:44}{headers.get('x-api-key', '-'):18}{source:12}{line}")
    if wrong:
        raise Failure(f"{wrong} answers are not as expected")

    print("\nA refusal says why, but not which addresses are listed:\n")
    print("  " + bodies["403 FORBIDDEN"])
    print("\nWhat the upstream received: who called, and from where. The secret is gone.\n")
    _, body = send(key("demo_listed", **{"x-extauthz-key-id": "key_spoofed"}))
    for name, values in sorted(json.loads(body)["headers"].items()):
        for value in values:
            line = f"  {name}: {value}"
            print(paint(line, "1") if name.startswith("x-extauthz-") else line)


def dashboard_link(programs):
    """Returns the link that the dashboard printed. It works once."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        programs.check()
        for line in (programs.folder / "dashboard.log").read_text(errors="replace").splitlines():
            if line.startswith("http://") and "/login?token=" in line:
                return line
        time.sleep(0.05)
    raise Failure(f"the dashboard printed no link after {TIMEOUT} s; its last output:\n{programs.tail('dashboard')}")


def print_instructions(programs):
    envoy, keys = f"127.0.0.1:{PORTS['ENVOY_PORT']}", programs.folder / "keys.yaml"
    print(f"""
Everything runs. In another terminal:

  curl -i -H 'x-api-key: demo_listed' {envoy}/hello
  curl -i -H 'x-api-key: demo_listed' --interface 127.0.0.2 {envoy}/hello
  curl -s 127.0.0.1:{PORTS['ADMIN_PORT']}/metrics | grep ^extauthz

See who calls from where, and change keys, on a page. This link works once, for ten minutes:

  {dashboard_link(programs)}

Change {keys}, and it is live within a second. Ctrl-C stops everything.""", flush=True)


def main():
    for s in signal.SIGINT, signal.SIGTERM:
        signal.signal(s, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="extauthz-demo-") as folder:
        programs = Programs(folder)
        try:
            start(programs)
            await_envoy(programs)
            print(f"Envoy on 127.0.0.1:{PORTS['ENVOY_PORT']} asks extauthz about every request to the upstream.\n")
            show_requests()
            if not os.environ.get("ONCE"):
                print_instructions(programs)
                while True:
                    programs.check()
                    time.sleep(0.5)
        except Failure as e:
            sys.exit(f"demo: {e}")
        finally:
            programs.stop()


if __name__ == "__main__":
    main()
