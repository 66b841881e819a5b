//! Probes and serial ports: the only place that knows probe-rs and serialport.
