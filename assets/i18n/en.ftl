# The window in English. Keys are sorted by where they stand on the screen. How texts are written: docs/i18n.md.
# Failures are not here: their English words are at home in station/src/failure.rs.

## Formats

format-group = ,
format-date-time = %Y-%m-%d %H:%M
format-date = %-d %B %Y
format-time = %H:%M
format-day = %m-%d
failure-with-facts = { $sentence }: { $facts }

## Pictures

picture-saved = Saved { $path }
picture-not-saved = The picture can't be saved as { $path }: { $error }

## Widgets

switch-on = On
switch-off = Off

## States and outcomes

state-trouble = Can't be used
state-no-board = No board
state-unknown = Ready
state-ready = Board ready
state-running = Running
state-cancelling = Cancelling…
outcome-pass = PASS
outcome-fail = FAIL
outcome-error = ERROR
outcome-timeout = TIMEOUT
outcome-aborted = ABORTED
outcome-unfinished = unfinished
spoken-passed = passed
batch-open = open
batch-paused = paused
batch-closed = closed

## Why nothing starts

start-no-batch = No batch is selected: choose one with Ctrl+B
start-batch-paused = Batch { $name } is paused: resume it or choose another with Ctrl+B
start-batch-closed = Batch { $name } is closed: choose another with Ctrl+B
start-running = { $name } is already running
start-trouble = { $name } can't be used: { $remedy }
start-no-board = No board in { $name }: seat one first
start-check = A check failed: { $sentence }. { $remedy }
start-held = { $name } starts as soon as the checks are done
start-closing = The window closes when the running units are done
start-no-fixture = There is no fixture { $number }
start-all-running = Every fixture with a new board is already running
start-no-new-board = No new board to start: seat one, or press a fixture's number to run its board again

## A failure as it is copied

copied-failure = { $code }: { $sentence }. { $remedy }.
copied-outcome = Outcome: { $outcome }, { $again }
copied-permanent = permanent
copied-retry = may be tried again
copied-fixture = Fixture: { $name }
copied-serial = Serial: { $serial }
copied-unit = Unit: { $unit }
copied-unknown = unknown

## Times

time-under-minute = under a minute
time-minutes = { $minutes } min
time-days = { $days } days
time-hours = { $hours } h
time-hours-minutes = { $hours } h { $minutes } min

## Header

header-demo = DEMO: the passphrase “keywright-demo” is public, so anybody can open these keys. Never ship these units
header-tab-line = Line
header-tab-line-hint = Make units (F2, Ctrl+1)
header-tab-units = Units
header-tab-units-hint = Units that come back (F2, Ctrl+2)
header-tab-exports = Exports
header-tab-exports-hint = Hand out units and keys (Ctrl+4)
header-tab-trust = Trust
header-tab-trust-hint = Root, regions, and what rotates when (Ctrl+6)
header-bell = { $alarms } to look at
header-bell-hint = What happened, and to which unit (F3)
header-choose-batch = Choose batch
header-batch = Batch { $name }
header-batch-size = { $units } units, { $state }
header-no-batch = No batch
header-no-batch-how = see below how to make one
header-choose-a-batch = Choose a batch
header-to-choose-from = { $count } to choose from
header-help = Help: keys and states
header-help-hint = Keys and states
header-theme-light = Switch to the light theme
header-theme-dark = Switch to the dark theme
header-theme-hint = Light or dark (Ctrl+D)
header-nobody = Nobody yet
header-operator = Operator
header-auto-start = Auto-start
header-auto-start-hint = Start every board by itself when it is detected (Ctrl+A)
header-order = { $order } · { $model } rev. { $revision }
header-suite = suite { $suite }
header-suite-legacy = suite 1 (legacy)
header-part = Part { $part } · region { $region } · { $suite }
picker-search = Search batches
picker-none = There is no batch yet. Make one with “keywright batch new”
picker-no-match = No batch matches “{ $query }”
picker-option = Batch { $name }, { $units } units, { $state }
picker-units = { $units } units
picker-keys = ↑ ↓ choose, Enter selects, Esc closes
operator-ask = Who works here? It stands in every record
operator-hint = Name or badge
operator-keys = Enter saves, Esc closes
count-planned = planned
count-passed = passed
count-failed = failed
count-scrapped = scrapped
count-open = open
count-spoken = { $value } { $word }
count-done = done
count-to-go = to go
count-per-hour = units per hour
count-yield = first-pass yield
count-percent = { $value } %
count-batch-done = { $percent } % of the batch done
count-batch-done-unfinished = { $percent } % of the batch done, { $unfinished } unfinished

## The line

line-strip-empty = Arrow keys or the pointer choose a fixture; it is shown here in full
copied = Copied
copy-error = Copy error { $code }
copy-notice = Copy the notice
copy-error-hint = Copy this for a report; Ctrl+C copies every error on the screen
copy-faults = { $count ->
    [one] Copy the fault
   *[other] Copy the { $count } faults
}
copied-errors = { $count ->
    [one] 1 error is copied
   *[other] { $count } errors are copied
}
copied-no-error = There is no error on the screen to copy
line-closing = Finishing the running units
line-closing-text = The window closes when they are done. Close again to cancel them at the next safe point
line-no-balance = The counts don't balance: { $counted } units of { $planned } planned
line-no-balance-text = Compare the boards on the bench with the records before you go on
line-no-batch = No batch yet
line-no-batch-text = Make a product order with “keywright po new”, then a batch with “keywright batch new”; it appears here by itself
line-choose-batch = Choose a batch
line-choose-batch-text = Press Ctrl+B, then Enter
line-batch-paused = Batch { $name } is paused
line-batch-paused-text = No unit starts. Resume it or choose another with Ctrl+B
line-batch-closed = Batch { $name } is closed
line-batch-closed-text = No unit starts. Choose another with Ctrl+B
line-no-fixtures = No fixtures
line-no-fixtures-text = Plug in a debug probe, or name each fixture's probe and serial port in station.toml, then start Keywright again
line-no-fixtures-doctor = “keywright doctor” lists the probes and ports it can see
foot-cancels = Esc cancels { $name }
foot-stops = { $name } stops at its next safe point
foot-starts = Space or Enter starts { $name }, Esc goes back to all fixtures
foot-focused = { $name }, Esc goes back to all fixtures
foot-starts-one = Space starts the one ready board
foot-starts-some = Space starts { $count } boards
foot-running = { $count } running, Esc cancels
foot-waiting = Waiting for boards
check-looks = Looking at the station before the first board
check-looks-text = Image, keys, database, disk, broker, printer, clock and ports
check-looks-held = { $count ->
    [one] 1 fixture starts as soon as all is well
   *[other] { $count } fixtures start as soon as all is well
}
check-looks-again = { $remedy } (looking again…)
check-failed = { $name }: { $sentence }
check-failed-fixture = { $fixture }: { $sentence }
check-more = { $remedy } ({ $more } more failed)
check-warned = { $count ->
    [one] 1 warning. { $name }: { $sentence }
   *[other] { $count } warnings. { $name }: { $sentence }
}
check-fine = { $count ->
    [one] Ready for { $batch }: 1 check, nothing wrong
   *[other] Ready for { $batch }: { $count } checks, nothing wrong
}
check-again = Check again (F5)
check-again-name = Look at the station again
check-list = All checks (F6)
check-list-name = Show all checks
check-hide = Put away
check-hide-name = Put the warnings away
check-title = Checks for { $batch }
check-keys = Esc closes · F5 checks again
check-close = Close
check-ok = OK
check-warn = Warning
check-fail = Failed
check-of-fixture = { $fixture }: { $name }
check-home = Station folder
check-disk = Disk space
check-config = Configuration
check-database = Database
check-passphrase = Passphrase
check-anchors = Root and regions
check-signing = Signing keys
check-image = Common image
check-product-key = Product key
check-agent = Agent
check-broker = Broker
check-label = Label printer
check-lock = Lock
check-fixtures = Fixtures
check-probe = Probe
check-port = Serial port
check-backup = Backup
check-clock = Clock
scan-batch = Batch { $batch } was scanned and chosen
scan-batch-already = Batch { $batch } is chosen already
scan-nothing = “{ $code }” is no batch of this station and no unit's label
scan-unit = { $code } was scanned
scan-unit-text = No label is waited for. F2 shows what is known of it
scan-unit-open = Show its history (F2)
scan-unit-open-name = Show the history of what was scanned
scan-unit-away = Put away
scan-unit-away-name = Put away what was scanned
scan-unit-not-for = { $code } is not a batch, and no label is waited for ({ $why })

## Tiles

step-arrive = Arrive
step-flash = Flash
step-agent-key = Agent key
step-cloud-key = Cloud key
step-prove = Prove
step-lock = Lock
mark-done = done
mark-now = in work
mark-stopped = stopped here
mark-to-do = to do
mark-spoken = { $step }: { $mark }
tile-spoken = { $name }: { $state }
tile-spoken-qa = { $name } for QA: { $state }
tile-spoken-serial = serial { $serial }
tile-spoken-failure = { $code } { $sentence }. { $remedy }.
tile-list = { $first }, { $second }
tile-percent = { $value } %
tile-for-qa = for QA
tile-step-of = { $at } of { $of }
tile-reading-id = Reading the board's id…
tile-seat = Seat a board in this fixture
tile-seat-then = It will be detected by itself
tile-press-number = Press { $number } or Space to start
tile-press-space = Press Space to start
tile-waits = Waits for an open batch
tile-stopped-check = Waits: a check failed
tile-held = Starts after the checks
tile-starts = Starts by itself
tile-starts-still = Let it lie still for a moment
tile-seat-auto = It starts by itself when it lies still
tile-detected = A board was detected
tile-blind = This fixture can't detect boards by itself
tile-stopped = The unit was stopped before its end
tile-no-reason = No reason was recorded
tile-resumed = resumed, { $label }
tile-cancel = Cancel
tile-cancel-name = Cancel { $name }
tile-start = Start
tile-start-name = Start { $name }
tile-retry = Try again
tile-retry-name = Try again { $name }
tile-copy-name = Copy the failure of { $name }
tile-copy-hint = Copy for a report
verdict-take-out = Take it out
verdict-seat-next = Seat the next
verdict-next-ready = Next is ready
verdict-units = Goes on in Units (F2)
verdict-retry = May be tried again
verdict-help = Station needs help
verdict-qa = Hand to QA
compact-seat = Seat a board
compact-number = Number or Space
compact-space = Space to start
compact-waits = Waits for a batch
compact-held = After the checks
compact-starts = Starts by itself
compact-stopped = A check failed

## Footer

foot-keys-line = 1–9 start a fixture · Esc cancel · Ctrl+B batch · F2 units · F1 help
foot-keys-units = Enter finds the unit · Esc puts it away · F2 line · F1 help
foot-keys-exports = Ctrl+1 line · Ctrl+2 units · F1 help
foot-keys-trust = Ctrl+1 line · Ctrl+4 exports · F1 help
foot-fixtures-running = { $count ->
    [one] 1 fixture is running
   *[other] { $count } fixtures are running
}

## Alarms

alarms-none-text = Nothing waits for a look. What was looked at stays in the records: keywright alarms --all
alarms-looked = I looked at it
alarms-looked-name = I looked at it: { $sentence }
alarms-who = Say first who works here: Operator, in the header
alarms-show-unit = Show the unit
alarms-show-unit-name = Show the unit { $unit }
alarms-times = { $count ->
    [one] once, last { $at }
   *[other] { $count } times, last { $at }
}
alarms-foot = An alarm comes back if it happens again · Esc closes
alarms-count = { $count ->
    [0] No alarms
    [one] 1 alarm
   *[other] { $count } alarms
}

## Help

help-space = start every fixture with a new board, or the one in focus
help-space-key = Space
help-number = start the fixture with that number
help-enter = start the fixture in focus
help-esc = cancel the fixture in focus, or all if none is
help-arrows = move the focus
help-arrows-key = Arrows, Tab
help-f2 = to the units and back (Ctrl+2, Ctrl+1)
help-exports = to the exports
help-trust = to the chain of trust
help-f3 = alarms
help-checks = check the station again; list of all checks
help-f4 = what a power cut can do: the measured matrix
help-batch = choose the batch
help-copy = copy the errors on the screen
help-auto = auto-start on or off
help-theme = light or dark
help-zoom = larger, smaller, as it was
help-f11 = cover the whole screen or not
help-quit = close, once the running units are done
help-f12 = save a picture of the window
help-help = this help
help-keys = Keys
help-results = Results
help-pass = the unit proved its keys and is recorded
help-fail = the unit is bad
help-error = the station, its cables or its files are bad
help-timeout = nobody answered in time
help-aborted = stopped by the operator or with the station
help-safe = Cancelling is safe at any time: a unit resumes where it stopped

## Power-cut matrix

matrix-title = What a power cut can do
matrix-text = Firmware { $firmware } on a virtual board: power cut { $cuts } times while keys changed, of { $of } in a full run. Then { $kept } times the unit had its old keys, { $renewed } times the new ones; { $stranded } times no key that anybody accepts, and { $manual } times it needed a person.
matrix-transition = Transition
matrix-cut = Cut
matrix-cuts = Cuts
matrix-old = Old keys
matrix-new = New keys
matrix-stranded = Stranded or manual
matrix-how = cargo xtask torture measures it again; docs/reliability.md says how it is judged. Esc closes

## Decisions of QA

act-new-keys = New keys
act-new-start = New start
act-move = Move region
act-move-to = Move to region { $region }
act-quarantine = Quarantine
act-release = Release
act-scrap = Scrap
act-withdraw = Withdraw
act-retest = Retest
act-compare = Ask the unit
act-rma-open = Took back (RMA)
act-rma-close = Close the RMA
refusal-scrapped = It was scrapped; it never comes back
refusal-in-work = { $serial } is in work for QA; wait for its end, or cancel it
refusal-is-quarantined = It is in quarantine already
refusal-not-quarantined = It is not in quarantine
refusal-no-order = No order is open for it
refusal-quarantined = It is in quarantine; release it first
refusal-no-fixture = This station has no fixture for the board
refusal-other-order = An order is open for it: carry that out, or withdraw it
refusal-no-keys = It was never given keys; run it through its batch on the line
refusal-product-key = The product key of { $order } was made invalid
refusal-not-passed = It has not passed; run it through its batch on the line
refusal-one-region = Only region { $region } is on this station; keywright anchors init brings others
refusal-rma-open = It is open under { $number } already
refusal-no-rma = No RMA is open for it
death-agent-key = agent key generation { $generation }
death-cloud-key = cloud key generation { $generation }
death-cloud-staged = cloud key on its way, generation { $generation }
death-cloud-leaving = cloud key left behind, generation { $generation }
death-none = No key of it lives any more: 0 keys die
death-keys = { $count ->
    [one] 1 key dies at once: { $keys }
   *[other] { $count } keys die at once: { $keys }
}
death-list = { $first }; { $second }
death-flash = All of its flash is erased: firmware, both key areas, the secret that its storage hangs on
death-cloud = Its cloud lets it in no more until it has passed again, with new keys
death-unit = 1 unit leaves for ever: its cloud never lets it in again, and no fixture takes it
death-order = 1 open order is withdrawn
purpose-new-keys = The unit asks for a new agent key and a new cloud key under those it has. The old ones die when it has proved the new ones
purpose-new-start = For a unit that lost its keys: its old identity dies everywhere first, then the chip is erased, flashed and enrolled again
purpose-move = The unit asks, under the keys it has, for a new cloud key and for the anchors of another region
purpose-quarantine = No key is issued to it and its cloud lets it in no more, until it is released
purpose-release = It becomes what it was before, and its cloud lets it in again
purpose-scrap = It is taken out for ever; this can't be undone
purpose-withdraw = The open order is taken back; what it did already stays done
purpose-retest = It proves its keys again and logs in at its cloud. Nothing on it changes: no key, no lock, no firmware
purpose-compare = It is asked over its serial port what it says of itself, and that is compared with its record. Nothing changes
purpose-rma-open = It came back from a customer. Number and reason stand in its history for ever; a number can't be used for it twice
purpose-rma-close = What was found of it. A closed RMA can't be opened again
verb-new-keys = Order new keys
verb-new-start = Erase and start anew
verb-move = Order the move
verb-quarantine = Set it aside
verb-release = Let it back
verb-scrap = Scrap it for ever
verb-withdraw = Withdraw the order
verb-retest = Retest it
verb-compare = Ask and compare
verb-rma-open = Take it back
verb-rma-close = Close the RMA with this finding
missing-region = Choose the region
missing-fixture = Say in which fixture the board lies
missing-running = { $name } is running
missing-trouble = { $name } can't be used
missing-reason = Say why; it stands in the unit's history
missing-tick = Tick that you know what is destroyed
missing-number = Type the RMA number
decision-title = { $act }, { $serial }
decision-title-carry = Carry out: { $act }, { $serial }
decision-where-to = It is in region { $region }. Where to?
decision-region = region
decision-region-name = Region { $region }
decision-which-fixture = In which fixture does the board lie?
decision-fixture = fixture
decision-fixture-running = running
decision-fixture-trouble = can't be used
decision-fixture-board = board seen
decision-fixture-empty = no board seen
decision-option = { $what } { $name }
decision-option-word = { $what } { $name }, { $word }
decision-why = Why? { $operator } and the reason stand in its history for ever
decision-why-hint = RMA number, what was seen, who asked for it
decision-why-name = Reason for this decision
decision-number = RMA number
decision-number-name = Number of the RMA
decision-number-hint = As the customer and the vendor know it, without spaces
decision-symptom = What does the customer say? { $operator } and this stand in its history for ever
decision-symptom-hint = What it does, since when, who sent it
decision-finding = What was found? { $operator } and this stand in its history for ever
decision-finding-hint = The cause, and what was done about it
decision-note = Note
decision-note-name = Note to it
decision-note-hint = What else is to be known; may stay empty
decision-sure = I have read this; what is destroyed is gone for good
decision-back = Back
decision-back-name = Back, nothing is changed
decision-keys = Ctrl+Enter does it, Esc goes back
decision-no-undo = This can't be undone

## Units that come back

unit-state-arrived = Arrived
unit-state-flashing = Flashing
unit-state-stage-one = Stage one done
unit-state-agent-key = Has its agent key
unit-state-cloud-key = Has its cloud key
unit-state-passed = Passed
unit-state-quarantined = In quarantine
unit-state-scrapped = Scrapped
units-search-hint = Scan, or type part of a serial, an id, K304, an RMA number
units-search-name = Hardware id or serial of a unit
units-find = Find
units-find-name = Find the unit
units-empty = Scan a unit that came back
units-empty-text = Type any part of a serial, the beginning of a hardware id, a batch, a code like K304 or an RMA number. You see all that happened to a unit, and give it new keys, retest it, take it back, set it aside or scrap it
search-count = { $count } of { $of } units
search-count-more = more than { $count } of { $of } units; another letter narrows it
search-range = { $from } to { $to }
search-asking = searching…
search-before = Page before
search-after = Next page
search-none = Nothing fits
search-none-text = All words must fit. Three letters or more are looked for anywhere in a serial; ids, batches and RMA numbers by their beginning
search-hit = { $serial }, { $state }, batch { $batch }
search-only-quarantined = In quarantine
search-only-scrapped = Scrapped
search-only-unfinished = Not finished
search-only-rma = Open RMA
search-only-name = Only: { $what }
column-serial = Serial
column-id = Hardware id
column-batch = Batch
column-attempts = Attempts
column-last = Last attempt
column-code = Code
column-rma = RMA
units-alarms = { $count ->
    [0] No alarm waits for a look
    [one] 1 alarm waits for a look: F3
   *[other] { $count } alarms wait for a look: F3
}
unit-key-none = none
unit-key-generation = generation { $generation }
unit-not-confirmed = { $key }, not confirmed
unit-on-its-way = { $key }; { $generation } on its way
unit-left-behind = { $key }; { $generation } left behind
unit-region-moves = { $region }, moves to { $wanted }
unit-supersedes-nothing = nothing
unit-batch = { $batch }, { $state }
unit-order = { $order }, { $model } rev. { $revision }
unit-attempts-interrupted = { $count }, the last was interrupted
unit-hardware-id = Hardware id
unit-batch-name = Batch
unit-product-order = Product order
unit-agent-key = Agent key
unit-cloud-key = Cloud key
unit-region = Region
unit-supersedes = Supersedes
unit-attempts = Attempts
unit-copy-id = Copy the hardware id
unit-copy = Copy
unit-open-order = Open order: { $act }
unit-order-by = { $operator }: { $reason }
unit-carry-out = Carry it out
column-when = When
column-order = Order
column-by = By
column-state = State
column-reason = Reason
column-fixture = Fixture
column-outcome = Outcome
column-why = Why
column-what = What
column-facts = Facts
column-key = Key
column-generation = Generation
column-fingerprint = Fingerprint
column-export = Export
column-to = To
column-file = File
column-number = Number
column-finding = Finding
column-field = Field
column-record = Its record says
column-unit = The unit says
column-verdict = Verdict
order-open = open
order-done-keys = done: agent { $agent }, cloud { $cloud }
order-done = done
order-withdrawn = withdrawn
order-kind-move = to region { $region }
order-kind-keys = new keys
order-kind-start = new start
story-orders = Orders of QA ({ $count })
story-no-orders = None was ever given
story-attempts = Attempts ({ $count })
story-history = History ({ $count })
story-proof = { $refused ->
    [one] agent key { $agent }, cloud key { $cloud }; 1 old key refused
   *[other] agent key { $agent }, cloud key { $cloud }; { $refused } old keys refused
}
story-copy = Copy all
story-copy-name = Copy all of the unit's history
story-copy-hint = As text for a report, times in UTC
story-copied = Copied the history of { $serial }
story-row-copied = Copied the row
story-rmas = RMA ({ $count })
story-no-rmas = It never came back from a customer
story-keys = Keys ({ $count })
story-exports = Exports ({ $count })
story-no-exports = No list named it
story-tab-overview = Overview
story-tab-traveler = Traveler
story-tab-compare = Record and unit
story-tab-name = Show: { $what }
story-save = Save the traveler as { $form }
story-filter = Filter the traveler
story-filter-hint = Filter
story-attempt = attempt
story-key-made = key made
story-export = in an export
story-seconds = { $seconds } s
story-filtered-none = No line fits the filter
key-live = live
key-replaced = replaced { $at }
key-given-up = given up: { $why }
key-on-its-way = on its way
export-handed = { $format }, { $protection }
export-revoked = { $format }, { $protection }, revoked
rma-open-state = open
rma-open-card = Open RMA { $number }
group-attempt = Attempts
group-step = Steps
group-key = Keys
group-label = Labels
group-decision = Decisions
group-rma = RMA
group-export = Exports
compare-none = Nobody asked the unit yet
compare-none-text = It lies in a fixture, its serial port connected; no debugger looks at it, so a locked unit goes on running. A retest asks it too
compare-at = Asked { $at }
compare-differs = { $count ->
    [0] What the unit reports is what its record says
    [one] 1 field differs
   *[other] { $count } fields differ
}
compare-not-reported = not reported
compare-same = same
compare-differs-word = differs
compare-not-recorded = not recorded
compare-health = What it reports of itself
compare-good = good
compare-look = look at it
compare-told = told
compare-matrix = What a power cut can do (F4)
compare-field-hardware-id = Hardware id
compare-field-product-order = Product order
compare-field-suite = Suite
compare-field-firmware = Firmware
compare-field-stage = Stage
compare-field-record = Key record
compare-field-agent-key = Agent key generation
compare-field-cloud-key = Cloud key generation
compare-field-region = Region
compare-field-agent-fingerprint = Agent key fingerprint
compare-field-cloud-fingerprint = Cloud key fingerprint
compare-field-anchors = Anchors' fingerprint
health-area-a = Key area A
health-area-b = Key area B
health-last-failure = Last failure
health-cloud = Its cloud
health-reset-cause = Started by
health-uptime = Running for
health-ram = RAM ever used
report-unit = Unit { $serial }
report-id = Hardware id { $id }
report-batch = Batch { $batch }
report-state = State { $state }
report-keys = Agent key { $agent }, cloud key { $cloud }, region { $region }

## What the line and the records tell

event-arrived = arrived
event-flash-begin = flash begin
event-flash-end = flash end
event-passed = passed
event-agent-key-issued = agent key issued
event-agent-key-active = agent key active
event-agent-key-in-use = agent key in use
event-agent-key-voided = agent key voided
event-cloud-key-reserved = cloud key reserved
event-cloud-key-issued = cloud key issued
event-cloud-key-active = cloud key active
event-cloud-left = cloud left
event-keys-forgotten = keys forgotten
event-keys-revoked = keys revoked
event-move-ordered = move ordered
event-quarantined = quarantined
event-released = released
event-scrapped = scrapped
event-reprovision-ordered = reprovision ordered
event-reprovision-withdrawn = reprovision withdrawn
event-reprovisioned = reprovisioned
event-interrupted = interrupted
event-attempt-ended = attempt ended
event-alarm = alarm
event-retest-ordered = retest ordered
event-retested = retested
event-reported = reported
event-compared = compared with its record
event-rma-opened = came back (RMA)
event-rma-closed = RMA closed
event-label-printed = label printed
event-label-reprinted = label printed again
event-label-scanned = label read back
event-reset = reset
event-lock-begin = lock begun
event-lock-end = lock done
event-update-begin = update begun
event-update-end = update done
event-returned = returned
event-device-log = the unit says
fact-serial = serial
fact-image = image
fact-generation = generation
fact-agent-key = agent key
fact-cloud-key = cloud key
fact-order = order
fact-reason = reason
fact-operator = operator
fact-state = state
fact-cloud = cloud
fact-region = region
fact-voided = voided
fact-kind = kind
fact-outcome = outcome
fact-supersedes = supersedes
fact-number = number
fact-finding = finding
fact-note = note
fact-key = key
fact-fingerprint = fingerprint
fact-attempt = attempt
fact-station = station
fact-for = for
fact-failure = failure
fact-format = format
fact-file = file
fact-protection = protection
fact-export = export
fact-to = handed to
fact-confirmed = confirmed
fact-replaced = replaced
fact-refused = old keys refused
fact-code = code
fact-labels = labels
fact-fixture = fixture
fact-differs = differs
fact-why = why
fact-firmware = firmware
fact-unit = unit
fact-version = version
fact-ms = ms
label-opening-the-serial-port = opening the serial port
label-connecting-to-the-chip = connecting to the chip
label-comparing-the-flash = comparing the flash
label-locked-take-its-power-away-and-give-it-back = locked: take its power away and give it back
label-asking-the-unit-to-renew-its-key = asking the unit to renew its key
label-its-cloud-tells-it-to-renew-its-key = its cloud tells it to renew its key
label-restarting = restarting
label-asking-for-the-proof = asking for the proof
label-checking-the-proof = checking the proof
label-waiting-for-its-login-at-the-cloud = waiting for its login at the cloud
label-trying-its-old-keys = trying its old keys
label-reading-the-option-bytes = reading the option bytes
label-setting-the-option-bytes = setting the option bytes
label-trying-to-read-its-flash = trying to read its flash
label-erasing = erasing { $place }
label-writing = writing { $place }
label-reading-back = reading back { $place }
label-agent-key-issued = agent key { $generation } issued
label-agent-key-active = agent key { $generation } active
label-cloud-key-issued = cloud key { $generation } issued
label-cloud-key-active = cloud key { $generation } active
place-boot = boot
place-key-area-a = key area A
place-product-key = product key
place-app = app
place-boot-journal = boot journal
place-trust-store = trust store
place-flash = flash
told-setting-aside = Setting it aside: { $serial }…
told-letting-back = Letting it back: { $serial }…
told-scrapping = Scrapping it: { $serial }…
told-taking-back = Taking the order back: { $serial }…
told-ordering = Ordering for { $serial }…
told-set-aside = { $serial } is set aside; its cloud lets it in no more
told-let-back = { $serial } is out of quarantine; its cloud lets it in again
told-scrapped = { $serial } is taken out for ever; its keys are dead
told-taken-back = { $serial } has no open order; what the order did stays done
told-order-stands = The order stands; { $serial } is in work in fixture { $fixture }
told-passed = { $serial } passed with agent key { $agent } and cloud key { $cloud }; { $old } opens nothing any more
told-rma-opened = { $serial } came back under { $number }
told-rma-closed = { $serial } is closed under { $number }
told-retesting = { $serial } is retested in fixture { $fixture }
told-asking = { $serial } is asked in fixture { $fixture }
told-retested = { $serial } proved its keys again; nothing of it was changed
told-compared = { $serial } reports what its record says
told-traveler = The traveler of { $serial } is saved: { $file }
told-reading = Reading the records
told-handing-out = Handing out
told-export-written = Export { $numbers } is written
told-export-revoked = Export { $number } is revoked
told-order-entered = Order { $order } is entered
told-order-and-batch = Order { $order } and its batch { $batch } are entered
told-batch-made = Batch { $batch } is open: { $units } units
told-batch-state = Batch { $batch } is { $state }
told-orders-taken = { $count } orders were taken
told-test-label = A test label went to { $place }
value-new-keys = new-keys
value-new-start = new-start
value-move-region = move-region
value-agent = agent
value-cloud = cloud
value-make = make
value-none = none
value-plain = plain
value-password = password
value-update = new keys
value-retest = retest
value-live = live
value-replaced = replaced
value-given-up = given up
value-on-its-way = on its way
alarm-another-identity = shows another identity key than its own: somebody may imitate it
alarm-enrolled-again = has its keys and asks for first ones again: its product key may have leaked
alarm-cloud-key-unknown = claims a cloud key that it was never given
alarm-invalid-product-key = asks under a product key that was made invalid
alarm-activation-rate = enrols more units an hour than expected: its product key may have leaked
alarm-activations-over-plan = was asked for more units than were ordered: its product key may have leaked
alarm-unit = Unit { $unit } { $what }
alarm-unit-serial = Unit { $serial } ({ $unit }) { $what }
alarm-order = Product order { $name } { $what }

## People: roles and what is for whom

role-technician = Technician
role-qa = QA
role-vendor = Vendor engineer
role-admin = Admin
gate-log-in-first = Log in first
gate-only-qa = For QA, Vendor engineer or Admin only
gate-only-vendor = For Vendor engineer or Admin only
gate-only-admin = For Admin only
gate-units = Units that come back
header-person = Person
open-banner = This is an open station: everybody may do everything, under any name
menu-switch = Switch person
menu-lock = Lock
help-lock = another person, lock
foot-keys-people = F2 line · F8 switch person · F9 lock · F1 help

## Lock screen

lock-locked = Locked
lock-who = Who works here?
lock-logged-in = { $name } is logged in
lock-units = { $count ->
    [one] { $count } unit goes on for { $name }
   *[other] { $count } units go on for { $name }
}
lock-pick = Pick a name, or scan a badge
lock-field = Name, or scan your badge
lock-pin = PIN of { $name }
lock-clear = Clear
lock-log-in = Log in
lock-digit = Digit { $digit }
lock-another = Another person
lock-too-many = Too many wrong tries
lock-again = Try again in { $seconds } s, or ask an admin to unlock

## People

people-title = People
people-none = Nobody works here by name yet
people-none-how = The first person becomes the admin. From then on the window opens locked, and everything that is done bears a name.
people-add = Add a person
people-add-do = Add the person
people-create-admin = Create the admin
people-save = Save
people-back = Back
people-back-name = Back, nothing is changed
people-role-of = Role of { $name }
people-pin-of = New PIN of { $name }
people-badge-of = Badge of { $name }
people-no-way-back = From now on everybody logs in with a name and a PIN or a badge. There is no way back to an open station.
people-name = Name
people-role = Role
people-pin = PIN
people-pin-again = The same PIN again
people-badge-scan = Scan the badge
people-badge-optional = Scan a badge, or leave this empty
people-missing-name = Type the name; it stands in every record and never changes
people-missing-pin = Choose a PIN of at least { $count } characters
people-pin-weak = That PIN is one that everybody tries first: choose one without runs, repeats or the name
people-pin-twice = Type the same PIN twice
people-missing-badge = Scan a badge of 6 to 128 characters
people-missing-role = Choose another role
people-button-role = Role…
people-button-pin = New PIN…
people-button-badge = Badge…
people-button-take = Take the badge
people-take-name = Take the badge of { $name }
people-button-unlock = Unlock
people-unlock-name = Unlock { $name }
people-button-off = Switch off
people-off-name = Switch off { $name }
people-button-on = Switch on
people-on-name = Switch on { $name }
people-with-badge = with badge
people-no-badge = no badge
people-state-off = switched off
people-state-locked = locked out after { $count } wrong tries
people-state-ok = can log in
people-state-tries = can log in, { $count } wrong tries
people-line = { $role }, { $badge }, { $state }
told-working = Working…
done-added = { $name } works here as { $role }
done-role = { $name } is { $role } now
done-pin = { $name } has a new PIN
done-badge = { $name } has a new badge
done-no-badge = { $name } has no badge
done-on = { $name } can log in again
done-off = { $name } is switched off
done-unlocked = { $name } can try again
done-whole = Both histories are whole: { $audit } rows of the audit log, { $events } events of units
done-exported = { $rows } rows are in { $file }

## Audit log

audit-title = Audit log
audit-verify = Verify
audit-export = Export
audit-again = Read again
audit-row = Row
audit-when = When
audit-person = Person
audit-action = Action
audit-subject = Subject
audit-facts = Facts
audit-by-person = By person
audit-by-action = By action
audit-about = By batch, order, unit or person
audit-none = No row fits
audit-empty = Nobody has done anything here yet
audit-empty-how = Every act that changes something gets a row: who, when, what and about what. Rows can't be changed or removed.
audit-newest = The newest { $count } rows that fit; the export has all
## Trust

trust-title = Chain of trust
trust-new-region = New region…
trust-reading = Reading the anchors…
trust-reading-text = Certificates are checked and units are counted
trust-empty = No root and no region yet
trust-empty-text = Units are given certificates of a region, and a root vouches for the regions. New region… makes the first region, and the root with it; the command line does the same with keywright anchors init.
trust-root = Root
trust-region = Region { $region }
trust-region-named = Region { $region } · { $name }
trust-epoch = Epoch { $epoch }
trust-epoch-of = epoch { $epoch } of { $region }
trust-earlier = earlier; units keep it until their cloud keys are renewed
trust-units = { $count ->
    [one] 1 unit
   *[other] { $number } units
}
trust-since = Since { $day } · { $home }
trust-from = Valid from { $from }
trust-from-until = Valid from { $from } until { $until }
trust-endless = without end
trust-ends = { $days ->
    [one] ends in 1 day
   *[other] ends in { $days } days
}
trust-ends-today = ends within a day
trust-ended-today = ENDED today
trust-ended = { $days ->
    [one] ENDED 1 day ago
   *[other] ENDED { $days } days ago
}
trust-home-sealed = keys in the sealed file { $file }
trust-home-token = keys in token { $token }, serial { $serial }
trust-home-elsewhere = keys not on this station
trust-copy = Copy
trust-copy-name = Copy the fingerprint of { $of }
trust-show-units = Units
trust-show-units-of = Show the units under { $of }
trust-hide-units = Hide units
trust-hide-units-of = Hide the units under { $of }
trust-no-units = No unit was given this certificate yet
trust-try = Try keys…
trust-try-of = Try the keys of { $region }
trust-try-text = Region, agent and units' secret sign or compute something once. Nothing is issued with it.
trust-try-go = Try them
trust-name = Name…
trust-name-of = Name { $region }
trust-name-go = Save the name
trust-rotate = Next epoch…
trust-rotate-of = Next epoch of { $region }
trust-rotate-go = Make the epoch
trust-rotate-text = { $count ->
    [one] New keys and a new certificate are made. 1 unit holds an earlier epoch; it gets epoch { $epoch } with its next cloud key, and what it has stays good until then. There is no way back to the epoch before.
   *[other] New keys and a new certificate are made. { $number } units hold an earlier epoch; they get epoch { $epoch } with their next cloud keys, and what they have stays good until then. There is no way back to the epoch before.
}
trust-make = New region
trust-make-go = Make the region
trust-make-text = The number stands in the certificates of every unit of the region: it can't be changed and never means another region. A region can't be taken away again.
trust-sure = I have read this
trust-field-number = Number, from 1
trust-field-name = Name (may stay empty)
trust-field-days = Valid for days (empty: without end)
trust-field-home = Where its keys live
trust-field-root-home = Where the root's keys live
trust-field-pin = PIN of token { $token }
trust-field-pin-known = PIN of token { $token } (empty: the one this station has)
trust-choose-sealed = Sealed file
trust-choose-token = Token { $token }
trust-choose-no-token = Token (station.toml names none)
trust-number-bad = Type the region's number, from 1
trust-number-taken = This region is here already
trust-name-bad = A name has up to 40 printable characters
trust-days-bad = Type 1 to 36525 days, or nothing for no end
trust-no-token = station.toml names no token under [pkcs11]
trust-no-pin = Type the token's PIN
trust-not-sure = Tick that you have read it
trust-search = Serial or hardware id begins with
trust-counting = Counting…
trust-batch = { $count ->
    [one] { $batch } · 1 unit
   *[other] { $batch } · { $number } units
}
trust-none-found = No unit here begins so
trust-shown-first = The first { $count }; search for the others
trust-more = Show more
trust-rotation = What rotates when
trust-turn-region = { $region }, epoch { $epoch }
trust-turn-region-do = Before it ends, make its next epoch
trust-turn-region-endless = Nothing to do; its next epoch gives it new keys when you want them
trust-turn-agent = Agent's certificates in { $region }
trust-turn-agent-do = Nothing to do: they are made anew with the region's next epoch
trust-turn-units = { $count ->
    [one] 1 unit of { $region } holds an earlier epoch
   *[other] { $number } units of { $region } hold an earlier epoch
}
trust-turn-units-do = Renew their cloud keys; they get epoch { $epoch } with them: keywright unit rekey --key cloud --batch B
trust-turn-root = Root
trust-turn-root-do = Nothing to do: every unit knows what the next root must be; it is for the day this one is lost
trust-turn-export = Export key, since { $day }
trust-turn-export-do = When you want another one, move anchors/export.sealed away and tell recipients the new fingerprint
trust-token = Token (PKCS#11)
trust-token-none = station.toml names no token. With one, a region's keys can live where nobody can copy them.
trust-token-there = plugged in
trust-token-slot = Slot { $slot }, serial { $serial }, { $model }
trust-token-pin = Its PIN is known to this station
trust-token-no-pin = Its PIN is asked for when it is needed
trust-done-made = Region { $region } is made; orders can name it
trust-done-rotated = Region { $region } has its next epoch; new units get it from now on
trust-done-renamed = Region { $region } has its new name
trust-done-tried = Every key of region { $region } works

## Settings

header-settings = Settings
header-settings-hint = Language, colours, fixtures (Ctrl+,)
help-settings = settings
settings-window = Window
settings-language = Language
settings-language-system = As the system
settings-theme = Colours
settings-theme-system = As the desktop
settings-theme-light = Light
settings-theme-dark = Dark
settings-theme-contrast = High contrast
settings-text-size = Text size
settings-text-size-hint = Ctrl+= and Ctrl+- change it until the window closes
settings-station = Station
settings-name = Station name
settings-name-hint = Stands in every record
settings-image = Common image
settings-image-hint = common-image.json or its folder, relative to station.toml
settings-gray = Sample after
settings-gray-hint = passes the batch waits for the check of a sample; 0 never does
settings-timeout = Exchange time
settings-timeout-hint = seconds an exchange may stand still
settings-line = Line
settings-auto-start = Auto-start
settings-auto-start-on = Begin with auto-start on
settings-debounce = Lies still for
settings-debounce-hint = milliseconds until a board that was put in starts by itself
settings-sounds = Sounds
settings-sounds-on = Pass, fail and “somebody is wanted” can be heard
settings-sounds-test = Test sounds
settings-sounds-hint = sound_command under [line] names another player
settings-fault-milliseconds = 0 to 60000 milliseconds
sounds-playing = Playing…
sounds-played = The sounds were played
sounds-not-played = The sounds can't be played: { $error }
sounds-no-player = no player was found; name one with sound_command under [line] in station.toml
settings-fixtures = Fixtures
settings-no-fixtures = None is named: probes and serial ports are paired at the start if they can be told apart
settings-fixture-name = Fixture { $number }: name
settings-fixture-probe = Fixture { $number }: probe
settings-fixture-port = Fixture { $number }: serial port
settings-fixture-remove = Remove fixture { $number }
settings-fixture-add = Add a fixture
settings-fixture-hint = “keywright doctor” lists the probes and ports that are plugged in
settings-clouds = Clouds
settings-cloud = { $name }: { $url }, { $kind }
settings-cloud-local = a broker in this station
settings-cloud-mosquitto = a Mosquitto broker
settings-clouds-hint = Clouds are written in station.toml by hand, as [cloud.NAME]
settings-file = File
settings-copy-path = Copy the path
settings-file-hint = Open station.toml in any editor: it is what counts, comments stay, and what is changed there is read again here
settings-save = Save
settings-discard = Discard changes
settings-reload = Read the file again
settings-close = Close
settings-keys = Ctrl+S saves, Esc closes
settings-saved = Saved in station.toml
settings-saved-restart = Language, colours and text size hold now, the rest from the next start on
settings-reread = station.toml was changed outside and read again
settings-outside = station.toml was changed outside
settings-outside-text = Your changes are not saved; read the file again and make them anew
settings-unsaved = There are changes that are not saved
settings-unsaved-text = Save them or discard them; Esc goes on
settings-refused = The settings are shown only
settings-fault-name = 1 to 64 characters
settings-fault-number = A whole number, 0 or more
settings-fault-seconds = 5 to 3600 seconds
settings-fault-probe = VID:PID:SERIAL, such as 0483:374b:066DFF3
settings-fault-port = A serial port, such as /dev/ttyACM0 or COM3
settings-fault-twice = Another fixture has it already
foot-keys-settings = Tab moves on · Ctrl+S saves · Esc closes

## The Shift view

header-tab-shift = Shift
header-tab-shift-hint = How the line does, and the end of the shift (Ctrl+5)
help-shift = figures of the line, end of the shift
foot-keys-shift = 1–4 range · T tables · E end of shift · Ctrl+1 line · F1 help
shift-reading = Reading the records
shift-open-since = Shift { $number }, open since { $at }, { $by }
shift-none-open = No shift is open
shift-none-open-how = The first start opens the next one by itself; figures of earlier work are under Today, 7 days and All
shift-nothing-yet = No unit has ended yet
shift-nothing-then = No unit ended in this range
shift-no-pass-yet = No unit has passed yet
shift-no-cause = Nothing failed
shift-empty = As soon as units end, speed, first-pass yield, cycle times and the reasons of failures stand here
shift-begin = Start a shift
shift-end = End shift…
shift-save = Save sheet
shift-save-csv = Save CSV
shift-tables = Tables
shift-pictures = Pictures
shift-range-shift = This shift
shift-range-today = Today
shift-range-week = 7 days
shift-range-all = All
shift-filter-batch = Batch
shift-all-batches = All batches
shift-all-fixtures = All fixtures
shift-told-begun = Shift { $number } is open
shift-told-ended = Shift { $number } has ended; everything balances
shift-told-ended-differs = Shift { $number } has ended with { $count ->
    [one] 1 difference
   *[other] { $count } differences
} and a reason
shift-told-saved = Saved { $file }
shift-told-close = × Put this away
shift-units-passed = units passed
shift-median = cycle time, median
shift-not-passed = attempts did not pass
shift-fact-attempts = { $count ->
    [one] 1 attempt
   *[other] { $shown } attempts
}
shift-fact-worked = in { $hours }:{ $minutes } h of work
shift-fact-first = { $passed } of { $all } units
shift-fact-p90 = 9 in 10 within { $time }
shift-fact-cancelled = and { $count } cancelled
shift-seconds = { $value } s
shift-picture = { $title }: { $told }
shift-trend-quarter = Units passed every 15 minutes
shift-trend-hour = Units passed every hour
shift-trend-day = Units passed every day
shift-trend-sentence = Most { $most } from { $at } on, in the newest interval { $last }
shift-trend-bar = from { $at } on: { $count } passed
shift-yield-title = First-pass yield
shift-yield-sentence = { $all } in all, lowest { $low } from { $at } on
shift-cycle-title = Cycle time of units that passed
shift-cycle-sentence = Half within { $median }, 9 in 10 within { $p90 } (the two lines)
shift-cycle-bar = { $range }: { $count } passed
shift-bar = { $from } to { $to } s
shift-bar-open = { $from } s and more
shift-causes-title = Why attempts did not pass
shift-causes-sentence = Most often { $code } { $what }: { $share }, { $count } of { $all }
shift-by-fixture = By fixture
shift-past = Shifts that ended
shift-col-from = From
shift-col-to = To
shift-col-passed = Passed
shift-col-not-passed = Did not pass
shift-col-first = First attempts
shift-col-at-once = Passed at once
shift-col-yield = First-pass yield
shift-col-took = Cycle time
shift-col-code = Code
shift-col-what = What
shift-col-attempts = Attempts
shift-col-share = Share
shift-col-together = Together
shift-col-fixture = Fixture
shift-col-median = Median
shift-col-shift = Shift
shift-col-who = Ended by
shift-col-units = Units
shift-col-failed = Failed
shift-col-differences = Differences
shift-col-reason = Reason
shift-unfinished = unfinished
shift-in-work = Still in work: { $fixtures }
shift-replaced = { $planned } + { $replaced } in place of scrapped ones
shift-equation = Batch: planned { $planned } = { $passed } passed + { $failed } failed + { $scrapped } scrapped + { $open } open
shift-equation-shift = This shift: { $units } units = { $passed } passed + { $failed } failed + { $scrapped } scrapped + { $unfinished } unfinished
shift-end-title = End shift { $number }
shift-end-how = Count what this shift left in the trays; a field may stay empty
shift-end-nothing = This shift worked on no unit
shift-counted = In the trays:
shift-counted-name = { $tray } in the trays, batch { $batch }
shift-balances = Everything balances
shift-differences = { $count ->
    [one] 1 difference
   *[other] { $count } differences
}
shift-differs-counted = Batch { $batch }, { $tray }: { $counted } counted, { $records } in the records
shift-differs-units = { $text } ({ $units })
shift-differs-unfinished = Batch { $batch }: begun, but neither passed nor failed: { $units }
shift-differs-unread = { $fixture }: { $count ->
    [one] 1 start of a board
   *[other] { $count } starts of a board
} that never told its id, last { $at } ({ $code })
shift-differs-overrun = Batch { $batch }: { $count } units more than planned
shift-reason = Reason for the differences
shift-reason-why = What does not balance needs a reason
shift-numbers-only = In the trays are whole numbers
shift-end-final = A shift that ended can't be opened again; the next start opens the next one (Ctrl+Enter ends it)
shift-end-go = End the shift

## Orders, batches and labels

header-tab-batches = Batches
header-tab-batches-hint = Orders and batches (Ctrl+3)
help-batches = orders and batches
step-label = Label
foot-keys-batches = Ctrl+1 line · Ctrl+2 units · F1 help
label-turn = waiting for its turn at the printer
label-print = printing the label
label-scan = stick the label on and scan it
label-ask = asking the unit what it says of itself
says-blank = blank
says-unconfirmed = unconfirmed
says-active = active
says-invalid = invalid
says-retired = retired
says-product-key = product key
says-no-cloud = no cloud key
says-logging-in = logging in
says-logged-in = logged in
says-refused = login refused
says-power-on = power on
says-reset-pin = reset pin
says-software = software
says-watchdog = watchdog
says-brown-out = brown-out
says-low-power = low power
says-not-said = not said
scan-title = Scan the label of { $serial }
scan-text = { $fixture }: stick it on, then scan it
scan-text-again = { $fixture }: stick it on, then scan it (label { $labels }: take the old ones off)
scan-problem = { $problem }; scan the label of { $fixture } again
scan-print-again = Print again
scan-print-again-name = Print the label of { $serial } again
sample-title = Check a sample: { $waiting } units passed
sample-text = Look at { $serials }; no unit of { $batch } starts until then
sample-stop = Stop the batch
sample-stop-name = Stop the batch: the sample is not good
sample-approve = Approve
sample-approve-name = Approve the sample
sample-not-good = the sample is not good
need-operator = Say first who works here: Operator, in the header
batches-title = Orders and batches
batches-new-order = New order…
batches-new-batch = New batch…
batches-no-order-yet = Enter a product order first
batches-import = Import orders…
batches-test-label = Print a test label
batches-printer = Labels: { $place }
batches-none-chosen = No batch is chosen
batches-empty = A product order says what the vendor ordered; its units are made in batches. Begin with “New order…”, or import a list
batches-choose = Choose a batch on the left to see its counts and who decided what about it
batches-no-orders = No orders yet
batches-key-dead = { "," } its product key counts for nothing
batches-order-facts = { $quantity } × { $model } rev. { $revision }, region { $region }, label { $label }{ $key }
batches-row = Batch { $name }, { $state }, { $passed } of { $quantity } passed
batches-no-batch = No batch yet
batches-head = Batch { $name }, { $state }
batches-balance = { $planned } planned = { $passed } passed + { $failed } failed + { $scrapped } scrapped + { $open } open
batches-pause = Pause…
batches-close = Close…
batches-resume = Resume…
batches-reopen = Open again…
batches-clone = Clone batch…
batches-clone-order = Clone order…
batches-gray-station = as the station says
batches-gray = after each { $n } passes
batches-image-later = bound by the first flash
batches-usual-serials = { $batch }-00001 and a check letter
batches-fact-order = Product order
batches-fact-serials = Serials
batches-fact-sample = Sample
batches-fact-image = Image
batches-fact-label = Label
batches-fact-key = Product key
batches-key-ended = enrols no unit any more
batches-key-enrols = enrols
batches-preview-name = Preview of a label's code: { $serial }
batches-preview = preview, anchor 0000…
batches-timeline = Timeline ({ $count })
timeline-when = When
timeline-about = About
timeline-what = What
timeline-who = Who
timeline-why = Why
field-name = Name
field-model = Model
field-hw-revision = Hardware revision
field-part-number = Part number
field-quantity = Units ordered
field-region = Region
field-suite = Suite
field-cloud = Cloud
field-lock = Lock units
field-per-hour = Enrolments an hour
field-label = Label
field-image = Firmware image
field-batch = Batch
field-batch-quantity = Units of the batch
field-serial-pattern = Serial pattern
field-gray-release = Sample after
hint-part-number = as the model
hint-per-hour = not said
hint-image = bound by the first flash
hint-batch = no batch yet
hint-batch-quantity = all that is left
hint-gray-release = as the station says
wizard-batch-like = New batch like { $other }, under { $order }
wizard-batch = New batch under { $order }
wizard-order-like = New order like { $other }
wizard-order = New product order
wizard-key-hint = drawn here; or the vendor's encrypted file
wizard-key-how = encrypted to: keywright po key-recipient
wizard-wrong = { $field }: { $what }
wizard-wrong-many = { $n } fields are wrong: first { $field }, { $what }
wizard-right = All fields are right
wizard-create-batch = Create the batch
wizard-create-order = Create the order
dialog-leave = Leave it
wizard-bind = Bind to { $model } { $version }
ask-numbers = { $passed } passed, { $failed } failed, { $scrapped } scrapped, { $running } in work, { $left } not begun
ask-close = Close batch { $name }?
ask-close-text = { $numbers }. No unit of it starts any more, and the product key enrols none of its units any more
ask-close-go = Close the batch
ask-pause = Pause batch { $name }?
ask-pause-text = { $numbers }. No unit of it starts until it is resumed
ask-pause-go = Pause the batch
ask-reopen = Open batch { $name } again?
ask-reopen-text = { $numbers }. The product key enrols its units again, { $open } at most
ask-reopen-go = Open it again
ask-resume = Resume batch { $name }?
ask-resume-go = Resume the batch
ask-why = Say why; it stands in the batch's timeline
ask-reason-optional = Reason (may stay empty)
ask-reason = Reason
import-title = Import orders
import-how = CSV or JSON with the columns of docs/formats/orders.sample.csv; all of it is taken or nothing
import-file = File
import-name = Name the file
import-read = Read it
import-first = Read the file first
import-correct = Correct the list first
import-take = Take the orders
import-take-n = Take { $n } orders
import-counts = { $orders } orders, { $batches } batches
import-faults = { $n } faults; nothing will be taken
batches-no-printer = There is no label printer to use
batches-no-printer-how = No label printer yet; a [label] table in station.toml names one
label-policy-none = none
label-policy-print = print
label-policy-scan = print+scan-back
timeline-created = created
timeline-paused = paused
timeline-resumed = resumed
timeline-closed = closed
timeline-reopened = opened again
timeline-sample-approved = sample approved
entry-name = 1 to { $longest } letters, digits, '.', '_' or '-'
entry-order-taken = there is an order { $name } already
entry-words = at most 64 printable characters
entry-number = a whole number, { $least } to { $most }
entry-region = its keys are not on this station; here are { $here }
entry-suite = 2 (hardened) or 1 (legacy)
entry-cloud = station.toml names no cloud { $cloud }; it has { $names }
entry-lock = yes or no
entry-label = none, print or print+scan-back
entry-image = 64 hex digits: SHA-256 of common-image.json
entry-image-model = that image is for model { $model }
entry-batch-taken = there is a batch { $name } already
entry-left = the order has { $left } units left
entry-serials = its serials could be those of batch { $batch }
entry-pattern = character { $position }: { $what }
pattern-look-alike = { $letter } looks like a digit or like another letter; use { $letters }
pattern-no-opening = a {"}"} without its {"{"}
pattern-no-closing = a {"{"} without its {"}"}
pattern-no-place = { $sign } does not stand in serials; use digits, '-', '.' and { $letters }
pattern-second-check = a second {"{"}c{"}"}; one check character is enough
pattern-second-counter = a second counter; a serial has one
pattern-counter-size = a counter is {"{"}n:3{"}"} to {"{"}n:9{"}"}
pattern-unknown = {"{"}{ $name }{"}"} is not known; there are {"{"}n:5{"}"} {"{"}c{"}"} {"{"}batch{"}"} {"{"}yy{"}"} {"{"}ww{"}"} {"{"}mm{"}"}
pattern-no-counter = it has no counter: write {"{"}n:5{"}"}
pattern-no-check = it has no check character: write {"{"}c{"}"}
pattern-long = serials would have { $long } characters, { $longest } fit on a label
entry-room = it has room for { $room } serials, the batch has { $quantity } units

## Exports

exports-step-units = Units
exports-step-format = Format
exports-step-protection = Protection
exports-step-preview = Preview
exports-step-file = File
exports-step-receipt = Receipt
exports-no-format = Choose a format
exports-no-recipient = Paste the vendor's age1… line
exports-no-key = Choose the vendor's public key file
exports-short = The password has fewer than 12 characters
exports-differ = The two passwords differ
exports-no-reason = Say why keys leave in clear
exports-no-to = Say who receives it
exports-reading = The records are being read
exports-no-unit = No unit is like that; go back and choose others
exports-no-operator = Say first who works here: Operator, in the header
exports-no-folder = Choose a folder
exports-no-second = Two people hand out keys: say who stands by
exports-same-person = The second person is somebody else than the operator
exports-pick-key = The vendor's OpenPGP public key
exports-pick-folder = Folder for the exported files
exports-title-csv = Canonical list, CSV
exports-title-jsonl = Canonical list, JSON Lines
exports-title-aws = AWS IoT bulk registration
exports-title-hub = Azure IoT Hub devices
exports-title-dps = Azure DPS enrollments
exports-title-thingsboard = ThingsBoard bulk provisioning
exports-title-dynsec = Mosquitto dynamic security
exports-title-emqx = EMQX users, CSV
exports-title-emqx-json = EMQX users, JSON
exports-title-pskc = PSKC key container
exports-title-jws = Signed manifest, JWS
exports-holds-canonical = Every unit, failures included; with protection also a list with both keys of every passed unit
exports-holds-aws = Things and their attributes; no keys
exports-holds-azure = Derived symmetric keys
exports-holds-login = What the units log in with
exports-holds-hashes = Salted hashes of 256-bit passwords
exports-holds-both = Both keys of every unit
exports-holds-jws = One signed entry per unit; no keys
exports-new = New export
exports-log = Export log
exports-another = Another export
exports-back = Back
exports-now = Export now
exports-next = Next
exports-cancel = Cancel the export
exports-nothing = There is nothing to hand out yet
exports-nothing-how = Make a batch and units first; then come back here.
exports-which = Which units?
exports-which-how = A batch, or all units that meet the conditions below.
exports-batch = Batch
exports-any-batch = Any batch
exports-state = State
exports-any-state = Any state
exports-state-passed = Passed
exports-state-quarantine = In quarantine
exports-state-scrapped = Scrapped
exports-last = Last attempt
exports-any-result = Any result
exports-failed = Failed
exports-not-failed = Did not fail
exports-region = Region
exports-any = any
exports-since = Last attempt since
exports-until = Last attempt before
exports-which-form = In which form?
exports-no-secret = Nothing to protect
exports-no-secret-how = Nobody can log in as a unit with this file. It is signed.
exports-to = Who receives it
exports-to-hint = for the log
exports-how = Protected how?
exports-how-why = Whoever can open this file can log in as its units.
exports-age = Sealed for age recipients
exports-openpgp = Sealed for an OpenPGP key
exports-by-password = Keys encrypted under a password
exports-without = Only the list without keys
exports-plain = In clear, for a reason
exports-age-field = age recipients, one per line
exports-choose-keys = Choose public key files…
exports-password = Password, at least 12 characters
exports-password-again = The same again
exports-password-how = Tell it by another way than the file
exports-plain-warning = Keys in clear are on disk until somebody wipes it
exports-plain-why = Why; it stands in the log and in the receipt
exports-no-serial = An attempt without a unit
exports-where = Where to?
exports-where-how = The file, its signature and its receipt get names of their own; nothing is replaced.
exports-folder = Folder
exports-choose-folder = Choose the folder…
exports-second-demanded = Second person, demanded here
exports-second = Second person, if one stands by
exports-progress-name = Progress of the export
exports-done = Handed out
exports-done-how = Every file has a signature and a signed receipt beside it.
exports-with-keys = with keys
exports-without-keys = without keys
exports-copy = Copy
exports-log-empty = Nothing was handed out yet
exports-log-empty-how = Every file that leaves this station stands here, for ever.
exports-log-head = Who received which units' keys
exports-log-how = Newest first. Nothing here can be changed; a revocation is added.
exports-revoke-hint = stands in the log
exports-revoke-go = Revoke it for ever
exports-revoke-no = Do not revoke
exports-nobody = nobody named
exports-leave-out = Leave out { $name }
exports-sealed-for = Sealed for { $name }
exports-fingerprint = Fingerprint { $fingerprint }
exports-preview-rows = { $rows } rows, { $passed } units that passed. The first ones, secrets hidden:
exports-rows-of = { $done } of { $total } rows
exports-handed-out = Export { $number }, { $kind }, { $rows } rows
exports-copy-what = Copy: { $name }
exports-exposed-none = Nobody who has export { $number } knows a live key
exports-exposed = Who has export { $number } knows live keys of { $units } units; give them new ones: { $serials }
exports-revoke-why = Why is export { $number } revoked?
exports-revoke-numbers = It gave { $to } the keys of { $units } units in { $rows } rows. Revoking marks it for ever; it takes back no file. The keys stay live until the units get new ones.
exports-will = “{ $now }” writes { $rows } rows; { $units } units' keys will be known to whoever can open the file. That can't be taken back: the keys then have to be replaced.
exports-will-no-keys = “{ $now }” writes { $rows } rows; no key leaves the station.
exports-record = Export { $number }: { $form }, { $rows } rows, keys of { $units } units
exports-revoked = Revoked by { $by }: { $reason }
exports-who = Who is exposed by { $number }
exports-revoke = Revoke { $number }…
exports-again = Export { $number } again
