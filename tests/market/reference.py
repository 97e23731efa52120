"""Matching and settlement once more, in plain Python and written independently of the contracts."""

BUY, SELL = 0, 1
GRID = 0


def match_rows(rows: list[list[int]], tariff: int = 200_000) -> tuple[list[int], list[int]]:
    """The contract's own algorithm over ready lists: the baseline of `bench/vm.py`."""
    bids = sorted([-row[4], row[0], row[1], row[3]] for row in rows if row[2] == BUY)
    asks = sorted([row[4], row[0], row[1], row[3]] for row in rows if row[2] == SELL)
    asks.append([tariff, 10**9, GRID, sum(bid[3] for bid in bids)])
    asks.sort()
    trades = []
    b = a = 0
    while b < len(bids) and a < len(asks) and -bids[b][0] >= asks[a][0]:
        bid, ask = bids[b], asks[a]
        energy = min(bid[3], ask[3])
        trades.append([bid[2], ask[2], bid[1], ask[1], energy, ask[0], energy * ask[0] // 1000])
        bid[3] -= energy
        ask[3] -= energy
        b += bid[3] == 0
        a += ask[3] == 0
    return bids, asks
