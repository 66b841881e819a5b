^XA
^FX Keywright: a label of 40 x 20 mm at 203 dpi, its square code a Data Matrix. Copy it beside station.toml
^FX and name it there. A field with a value has FH, so that no value becomes a command. docs/labels.md lists the values.
^CI28
^PW320
^LL160
^FX The sign | never stands in the code, so nothing in it is taken for an escape.
^FO16,20^BXN,4,200,,,,|^FH^FD$code^FS
^FO140,22^A0N,26,24^FH^FD$serial^FS
^FO140,56^A0N,18,16^FH^FD$model rev. $hw_revision^FS
^FO140,80^A0N,18,16^FH^FD$part_number^FS
^FO140,104^A0N,18,16^FH^FD$date  $batch^FS
^FO140,128^A0N,16,14^FH^FD$anchor^FS
^XZ
