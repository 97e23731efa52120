"""The command that puts a load on a street."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer


def load(
    directory: Annotated[Path, typer.Option("--dir", help="The street, which must be running.")],
    homes: Annotated[int, typer.Option(help="How many made-up homes trade.")] = 100,
    rate: Annotated[float, typer.Option(help="Orders per second, of all of them.")] = 20.0,
    seconds: Annotated[float, typer.Option(help="For how long.")] = 60.0,
    bursts: Annotated[
        bool, typer.Option("--bursts", help="One order of each before every gate instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Let many made-up homes post orders on a running street; say what became of them."""
    from testnet.load import LoadPlan, as_text
    from testnet.load import load as put

    told = asyncio.run(put(directory, LoadPlan(homes, rate, seconds, bursts)))
    typer.echo(json.dumps(told, indent=1) if as_json else as_text(told))
