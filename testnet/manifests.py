"""Files by which existing engines run a community grid, written for a plan in their words."""

from collections.abc import Iterable
from typing import Final

from testnet.regions import neutral_names, regions_of
from testnet.street import HOMES_MAX, StreetError, StreetPlan

OWNER: Final = 10_001
# What a node's container takes beside the pages that all of them share, once it trades.
NODE_MIB: Final = 100

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
        commonwatt init /home-data --if-missing --join @/public/join --patience 600
        --name home-$$(hostname) --source drawn --announce-host &&
        exec commonwatt run --config /home-data/node.toml
    deploy:
      replicas: ${{HOMES:-{joining}}}
    volumes:
      - /home-data
      - public:/public:ro

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
        genesis_volumes=_lines(f"      - {name}:/street/{name}" for name in nodes),
        operator_volumes=_lines(f"      - {name}:/street/{name}" for name in nodes),
    )
    text += "\n".join(_node(name) for name in nodes)
    volumes = _lines(f"  {name}:" for name in ("street", "public", *nodes))
    return f"{text}\nnetworks:\n  grid:\n\nvolumes:\n{volumes}"


def _node(name: str) -> str:
    return f'  {name}:\n    <<: *node\n    hostname: {name}\n    volumes: ["{name}:/home-data"]\n'


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
