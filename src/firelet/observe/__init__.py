"""What firelet tells about functions: logs, and later metrics and traces."""
