# Timing constraints of the module `accelerator`, or of any of its modules synthesized alone.
#
# Before it is read, Tcl variables may be set (times in ns):
#   clock_period   period of clk
#   io_fraction    part of the period that the surroundings take before inputs and after outputs

if {![info exists clock_period]} { set clock_period 1.667 }
if {![info exists io_fraction]} { set io_fraction 0.3 }

if {[llength [get_ports -quiet clk]] > 0} {
  create_clock -name clk -period $clock_period [get_ports clk]
} else {
  # A module without registers is timed from its inputs to its outputs.
  create_clock -name clk -period $clock_period
}

set io_delay [expr {$clock_period * $io_fraction}]
foreach port [all_inputs] {
  if {[get_property $port full_name] ne "clk"} { set_input_delay $io_delay -clock clk $port }
}
set_output_delay $io_delay -clock clk [all_outputs]
