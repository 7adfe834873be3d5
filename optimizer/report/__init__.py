"""Reports in one file: charts as SVG inside one HTML page that needs nothing else; any domain may use them."""
