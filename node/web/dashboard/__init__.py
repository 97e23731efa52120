"""The dashboard of a node, switched on by `dashboard = true` in `[web]` (docs/dashboard.md).

Pages of HTML and SVG, written here from the answers that the API gives, one style sheet and one
script of our own. `site` serves them, each written once per block for all who look; `home`,
`community`, `market`, `chain` and `trade` are the pages; `charts` and `drawings` what is drawn on
them, over `plot`; `html` escapes whatever it is not told to be markup; `texts` has the words.
"""
