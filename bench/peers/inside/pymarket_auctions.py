"""PyMarket's auctions on given orders, for `bench.peers.pymarket_auctions`.

Asked: rows of [energy, price, home, 1 if a bid]. Answered: for each auction its name, the
processor's seconds it took, its number of transactions and the energy bought.
"""

import json
import sys
import time

import numpy
import pymarket

AUCTIONS = ("huang", "muda")


def main() -> None:
    """Run each auction once."""
    with open(sys.argv[1]) as file:
        rows = json.load(file)
    report = []
    for auction in AUCTIONS:
        market = pymarket.Market()
        for energy, price, home, buying in rows:
            market.accept_bid(energy, price, home, bool(buying))
        options = {"r": numpy.random.RandomState(1)} if auction == "muda" else {}
        start = time.process_time()
        transactions, _ = market.run(auction, **options)
        took = time.process_time() - start
        table = transactions.get_df()
        bids = {i for i, row in enumerate(rows) if row[3]}
        bought = float(table[table.bid.isin(bids)].quantity.sum())
        report.append([auction, took, len(table), bought])
    with open(sys.argv[2], "w") as file:
        json.dump(report, file)


main()
