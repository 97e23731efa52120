"""Files by which existing engines run a community grid, written for a plan in their words."""

import errno
import socket
from collections.abc import Iterable
from typing import Final

from testnet.regions import neutral_names, regions_of
from testnet.room import NODE_MIB
from testnet.street import HOMES_MAX, StreetError, StreetPlan

OWNER: Final = 10_001
API_PORT: Final = 4_680

_COMPOSE_HEAD: Final = """\
# A community grid: `docker compose up`. {summary}
#
# Made by `commonwatt testnet compose {options}`; any other size is made the same way.
#
# The one-shot service `genesis` makes keys and genesis of all authorities, each home's into a
# volume of its own; a home never sees another's key. The service `home` is as many homes as you
# like: each makes its own key, asks to join and trades. `operator` has the keys of all authorities:
# it founds the regions, and lets in who asks.
#
#   HOMES=36 docker compose up        or --scale home=36
#   SLOT_MINUTES=30 TIME_LAPSE=120    length of a slot, market time over real time
#   API_PORT=4681 PROMETHEUS_PORT=9091   where those are taken that are published: on this machine's
#                                     loopback address, the API of {first} and Prometheus
#   docker compose --profile metrics up  with Prometheus, which looks at {served}
#
# All of these may stand in a file `.env` beside this one.
#
# Whoever is in the grid's network may read those homes' API; changes ask for a home's token:
# `docker compose exec {first} cat /home-data/web.token`.
#
# `docker compose down` keeps the authorities' volumes, `down -v` starts afresh.

name: commonwatt

x-node: &node
  image: commonwatt
  depends_on:
    genesis:
      condition: service_completed_successfully
  # A node that cannot start as it is set up says why, and stays down.
  restart: on-failure:5
  read_only: true
  tmpfs: [/tmp]
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  stop_grace_period: 15s
  networks: [grid]

services:
  genesis:
    image: commonwatt
{build}    user: root
    command:
      - testnet
      - create
      - --dir=/street
      - --homes={fixed}
      - --authorities={authorities}
      - --regions={regions}
      - --slot-minutes=${{SLOT_MINUTES:-15}}
      - --time-lapse=${{TIME_LAPSE:-60}}
      - --containers
      - --joining=${{HOMES:-{joining}}}
      - --owner={owner}
    network_mode: none
    volumes:
      - street:/street
      - public:/street/public
{genesis_volumes}

  operator:
    <<: *node
    command: [testnet, operate, --dir=/street]
    # It listens to nothing that could be asked; without a check `up --wait` fails.
    healthcheck:
      test: [CMD, test, -r, /street/street.json]
      start_period: 10s
    volumes:
      - street:/street:ro
{operator_volumes}

  home:
    <<: *node
    entrypoint: [sh, -ec]
    command:
      - >-
        where=$$(python -m testnet.room home {nodes} /public/join) &&
        commonwatt init /home-data --if-missing --join "$$where" --patience 600
        --name home-$$(hostname) --source drawn --announce-host &&
        exec commonwatt run --config /home-data/node.toml
    deploy:
      replicas: ${{HOMES:-{joining}}}
    volumes:
      - /home-data
      - public:/public:ro

"""
_PROMETHEUS: Final = """\

  prometheus:
    image: prom/prometheus:v3.5.0
    profiles: [metrics]
    configs:
      - source: prometheus
        target: /etc/prometheus/prometheus.yml
    ports: ["127.0.0.1:${{PROMETHEUS_PORT:-9090}}:9090"]
    networks: [grid]

networks:
  grid:

configs:
  prometheus:
    content: |
      global:
        scrape_interval: 5s
      scrape_configs:
        - job_name: commonwatt
          static_configs:
            - targets: [{targets}]
"""


def check_room(plan: StreetPlan, joining: int, have_mib: int | None) -> None:
    """Raise `StreetError` where a grid's containers cannot all be in the memory of one machine.

    `joining` homes come beside the plan's; `have_mib` is None where nobody knows.
    """
    nodes = plan.homes + joining + len(neutral_names(plan))
    need_mib = nodes * NODE_MIB
    if have_mib is not None and have_mib < need_mib:
        raise StreetError(
            f"{nodes} nodes take about {need_mib} MiB of memory, and this machine has {have_mib}: "
            "ask for fewer homes (HOMES=4 docker compose up), or for a smaller grid "
            "(commonwatt testnet compose --homes 8 --regions 1)"
        )


def lacking(plan: StreetPlan, have_mib: int | None) -> list[str]:
    """Return in sentences what the Compose grid of a plan needs and this machine has not."""
    problems = []
    try:
        check_room(plan, 0, have_mib)
    except StreetError as error:
        problems.append(str(error))
    if not is_free(API_PORT):
        problems.append(
            f"port {API_PORT} of 127.0.0.1 is taken: give another to Compose "
            f"(API_PORT={API_PORT + 1} docker compose up, or a line of .env)"
        )
    return problems


def is_free(port: int) -> bool:
    """Tell whether a TCP port of this machine's loopback address is not taken."""
    with socket.socket() as tried:
        # As the engine does: what is left of closed connections does not count.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def compose_file(plan: StreetPlan, build: bool = True) -> str:
    """Return a Compose file for a plan: its authorities by name, all other homes as one service.

    Raises
    ------
    StreetError
        The plan cannot be.
    """
    fixed = plan.authorities * plan.regions
    if not fixed <= plan.homes <= HOMES_MAX:
        raise StreetError(
            f"{plan.homes} homes: {fixed} (the authorities of {plan.regions} regions) to "
            f"{HOMES_MAX}"
        )
    founding = StreetPlan(homes=fixed, authorities=plan.authorities, regions=plan.regions)
    founding.check()
    groups = regions_of(founding)
    nodes = [name for group in groups for name in group.names] + neutral_names(founding)
    where = "one region" if plan.regions == 1 else f"{plan.regions} regions and their main chain"
    text = _COMPOSE_HEAD.format(
        summary=f"{plan.homes} homes, {where}.",
        options=f"--homes {plan.homes} --regions {plan.regions} --authorities {plan.authorities}",
        build="    build: .\n" if build else "",
        fixed=fixed,
        authorities=plan.authorities,
        regions=plan.regions,
        owner=OWNER,
        joining=plan.homes - fixed,
        first=groups[0].names[0],
        served=", ".join(group.names[0] for group in groups),
        nodes=len(nodes),
        genesis_volumes=_lines(f"      - {name}:/street/{name}" for name in nodes),
        operator_volumes=_lines(f"      - {name}:/street/{name}" for name in nodes),
    )
    served = [group.names[0] for group in groups]
    text += "\n".join(_node(name, name in served, name == served[0]) for name in nodes)
    text += _PROMETHEUS.format(targets=", ".join(f'"{name}:{API_PORT}"' for name in served))
    volumes = _lines(f"  {name}:" for name in ("street", "public", *nodes))
    return f"{text}\nvolumes:\n{volumes}"


def _node(name: str, served: bool, published: bool) -> str:
    """Return a node's service; `served`: with its API, `published`: on the engine's host, too."""
    lines = [
        f"  {name}:",
        "    <<: *node",
        f"    hostname: {name}",
        f'    volumes: ["{name}:/home-data"]',
    ]
    if served:
        lines += [
            "    environment:",
            f'      COMMONWATT_WEB_LISTEN: "0.0.0.0:{API_PORT}"',
            f"      COMMONWATT_WEB_HOSTS: {name}",
            '      COMMONWATT_WEB_OPEN_READS: "true"',
            '      COMMONWATT_WEB_DASHBOARD: "true"',
        ]
    if published:
        lines.append(f'    ports: ["127.0.0.1:${{API_PORT:-{API_PORT}}}:{API_PORT}"]')
    return "\n".join(lines) + "\n"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
