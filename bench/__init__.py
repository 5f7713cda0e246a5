"""What firelet promises in figures, measured: ``make bench``. Never imported by firelet itself."""
