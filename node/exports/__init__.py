"""What a home's books hold, for other programs and for paper: bills, slots, trades.

`rows` reads them from the market's state, `formats` writes them as CSV or Parquet, `page` prints
bills as HTML. Every amount is a whole number of what its column's name ends in.
"""
