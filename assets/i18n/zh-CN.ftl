# 窗口的简体中文文本。键与 en.ftl 相同，顺序相同；术语见 docs/i18n.md。

## Formats

format-group = ,
format-date-time = %Y-%m-%d %H:%M
format-date = %Y年%-m月%-d日
failure-with-facts = { $sentence }：{ $facts }

## Pictures

picture-saved = 已保存 { $path }
picture-not-saved = 无法将图片保存为 { $path }：{ $error }

## Widgets

switch-on = 开
switch-off = 关

## States and outcomes

state-trouble = 无法使用
state-no-board = 无板
state-unknown = 就绪
state-ready = 板已就绪
state-running = 运行中
state-cancelling = 正在取消…
outcome-pass = 通过
outcome-fail = 失败
outcome-error = 错误
outcome-timeout = 超时
outcome-aborted = 中止
outcome-unfinished = 未完成
spoken-passed = 已通过
batch-open = 进行中
batch-paused = 已暂停
batch-closed = 已关闭

## Why nothing starts

start-no-batch = 未选择批次：按 Ctrl+B 选择
start-batch-paused = 批次 { $name } 已暂停：恢复它，或按 Ctrl+B 选择其他批次
start-batch-closed = 批次 { $name } 已关闭：按 Ctrl+B 选择其他批次
start-running = { $name } 已在运行
start-trouble = { $name } 无法使用：{ $remedy }
start-no-board = { $name } 中没有板子：请先放入一块
start-closing = 正在运行的设备完成后窗口将关闭
start-no-fixture = 没有第 { $number } 号工位
start-all-running = 所有放有新板的工位都已在运行
start-no-new-board = 没有可启动的新板：放入一块，或按工位编号重新运行其中的板子

## A failure as it is copied

copied-failure = { $code }：{ $sentence }。{ $remedy }。
copied-outcome = 结果：{ $outcome }，{ $again }
copied-permanent = 不可重试
copied-retry = 可以重试
copied-fixture = 工位：{ $name }
copied-serial = 序列号：{ $serial }
copied-unit = 设备：{ $unit }
copied-unknown = 未知

## Times

time-under-minute = 不到一分钟
time-minutes = { $minutes } 分钟
time-days = { $days } 天
time-hours = { $hours } 小时
time-hours-minutes = { $hours } 小时 { $minutes } 分钟

## Header

header-demo = 演示：口令“keywright-demo”是公开的，任何人都能打开这些密钥。切勿出货这些设备
header-tab-line = 产线
header-tab-line-hint = 生产设备（F2、Ctrl+1）
header-tab-units = 设备
header-tab-units-hint = 返回的设备（F2、Ctrl+2）
header-bell = { $alarms }待查看
header-bell-hint = 发生了什么、涉及哪台设备（F3）
header-choose-batch = 选择批次
header-batch = 批次 { $name }
header-batch-size = { $units } 台，{ $state }
header-no-batch = 没有批次
header-no-batch-how = 创建方法见下方
header-choose-a-batch = 请选择批次
header-to-choose-from = 共 { $count } 个可选
header-help = 帮助：按键与状态
header-help-hint = 按键与状态
header-theme-light = 切换到浅色主题
header-theme-dark = 切换到深色主题
header-theme-hint = 浅色或深色（Ctrl+D）
header-nobody = 尚未登记
header-operator = 操作员
header-auto-start = 自动启动
header-auto-start-hint = 检测到板子时自动启动（Ctrl+A）
header-order = { $order } · { $model } 版本 { $revision }
header-suite = 套件 { $suite }
header-suite-legacy = 套件 1（旧版）
header-part = 料号 { $part } · 区域 { $region } · { $suite }
picker-search = 搜索批次
picker-none = 还没有批次。用“keywright batch new”创建一个
picker-no-match = 没有匹配“{ $query }”的批次
picker-option = 批次 { $name }，{ $units } 台，{ $state }
picker-units = { $units } 台
picker-keys = ↑ ↓ 移动，Enter 选定，Esc 关闭
operator-ask = 谁在这里操作？姓名会写入每条记录
operator-hint = 姓名或工号
operator-keys = Enter 保存，Esc 关闭
count-planned = 计划
count-passed = 通过
count-failed = 失败
count-scrapped = 报废
count-open = 剩余
count-spoken = { $value } { $word }
count-done = 已完成
count-to-go = 预计剩余
count-per-hour = 台/小时
count-yield = 一次通过率
count-percent = { $value }%
count-batch-done = 批次已完成 { $percent }%
count-batch-done-unfinished = 批次已完成 { $percent }%，{ $unfinished } 台未完成

## The line

line-strip-empty = 用方向键或指针选择工位，其详情显示在这里
copied = 已复制
line-closing = 正在完成运行中的设备
line-closing-text = 完成后窗口将关闭。再次关闭则在下一个安全点取消它们
line-no-balance = 计数不平：已计 { $counted } 台，计划 { $planned } 台
line-no-balance-text = 继续之前，请将台上的板子与记录核对
line-no-batch = 还没有批次
line-no-batch-text = 先用“keywright po new”创建产品订单，再用“keywright batch new”创建批次，它会自动显示在这里
line-choose-batch = 请选择批次
line-choose-batch-text = 按 Ctrl+B，然后按 Enter
line-batch-paused = 批次 { $name } 已暂停
line-batch-paused-text = 不会启动任何设备。恢复该批次，或按 Ctrl+B 选择其他批次
line-batch-closed = 批次 { $name } 已关闭
line-batch-closed-text = 不会启动任何设备。按 Ctrl+B 选择其他批次
line-no-fixtures = 没有工位
line-no-fixtures-text = 插入调试探针，或在 station.toml 中为每个工位指定探针和串口，然后重新启动 Keywright
line-no-fixtures-doctor = “keywright doctor”会列出可见的探针和串口
foot-cancels = Esc 取消 { $name }
foot-stops = { $name } 将在下一个安全点停止
foot-starts = 空格或 Enter 启动 { $name }，Esc 返回全部工位
foot-focused = { $name }，Esc 返回全部工位
foot-starts-one = 空格启动唯一就绪的板子
foot-starts-some = 空格启动 { $count } 块板子
foot-running = { $count } 台运行中，Esc 取消
foot-waiting = 等待板子

## Tiles

step-arrive = 识别
step-flash = 烧录
step-agent-key = 签发密钥
step-cloud-key = 云密钥
step-prove = 验证
step-lock = 锁定
mark-done = 完成
mark-now = 进行中
mark-stopped = 在此停止
mark-to-do = 待办
mark-spoken = { $step }：{ $mark }
tile-spoken = { $name }：{ $state }
tile-spoken-qa = { $name }（质检）：{ $state }
tile-spoken-serial = 序列号 { $serial }
tile-spoken-failure = { $code } { $sentence }。{ $remedy }。
tile-list = { $first }，{ $second }
tile-percent = { $value }%
tile-for-qa = 质检
tile-step-of = { $at }/5
tile-reading-id = 正在读取板子标识…
tile-seat = 请在此工位放入板子
tile-seat-then = 会自动检测
tile-press-number = 按 { $number } 或空格启动
tile-press-space = 按空格启动
tile-waits = 等待进行中的批次
tile-detected = 已检测到板子
tile-blind = 此工位无法自动检测板子
tile-stopped = 设备在完成前被停止
tile-no-reason = 没有记录原因
tile-resumed = 续做，{ $label }
tile-cancel = 取消
tile-cancel-name = 取消 { $name }
tile-start = 启动
tile-start-name = 启动 { $name }
tile-retry = 重试
tile-retry-name = 重试 { $name }
tile-copy-name = 复制 { $name } 的失败信息
tile-copy-hint = 复制用于报告
verdict-take-out = 请取出
verdict-seat-next = 放入下一块
verdict-next-ready = 下一块已就绪
verdict-units = 在设备页继续（F2）
verdict-retry = 可以重试
verdict-help = 工位需要协助
verdict-qa = 交给质检
compact-seat = 放入板子
compact-number = 编号或空格
compact-space = 空格启动
compact-waits = 等待批次

## Footer

foot-keys-line = 1–9 启动工位 · Esc 取消 · Ctrl+B 批次 · F2 设备 · F1 帮助
foot-keys-units = Enter 查找设备 · Esc 收起 · F2 产线 · F1 帮助
foot-fixtures-running = { $count } 个工位运行中

## Alarms

alarms-none-text = 没有待查看的告警。已查看的保留在记录中：keywright alarms --all
alarms-looked = 我已查看
alarms-looked-name = 我已查看：{ $sentence }
alarms-who = 请先在顶部“操作员”处登记姓名
alarms-show-unit = 显示设备
alarms-show-unit-name = 显示设备 { $unit }
alarms-times = { $count } 次，最近 { $at }
alarms-foot = 再次发生时告警会重新出现 · Esc 关闭
alarms-count = { $count ->
    [0] 没有告警
   *[other] { $count } 条告警
}

## Help

help-space = 启动所有放有新板的工位，或焦点所在的工位
help-space-key = 空格
help-number = 启动该编号的工位
help-enter = 启动焦点所在的工位
help-esc = 取消焦点所在的工位，没有焦点则取消全部
help-arrows = 移动焦点
help-arrows-key = 方向键、Tab
help-f2 = 在设备页与产线页之间切换（Ctrl+2、Ctrl+1）
help-f3 = 告警
help-f4 = 断电的影响：实测矩阵
help-batch = 选择批次
help-auto = 打开或关闭自动启动
help-theme = 浅色或深色
help-zoom = 放大、缩小、还原
help-f11 = 全屏或退出全屏
help-quit = 运行中的设备完成后关闭
help-f12 = 保存窗口截图
help-help = 本帮助
help-keys = 按键
help-results = 结果
help-pass = 设备已证明其密钥并写入记录
help-fail = 设备不良
help-error = 工位站、线缆或文件有问题
help-timeout = 未能按时得到应答
help-aborted = 由操作员停止，或随站停止
help-safe = 随时可以安全取消：设备会从停止处继续

## Power-cut matrix

matrix-title = 断电会造成什么
matrix-text = 固件 { $firmware } 在虚拟板上：更换密钥期间断电 { $cuts } 次。之后设备 { $kept } 次保有旧密钥，{ $renewed } 次为新密钥；{ $stranded } 次没有任何一方接受的密钥，{ $manual } 次需要人工处理。
matrix-transition = 转换
matrix-cut = 断电点
matrix-cuts = 次数
matrix-old = 旧密钥
matrix-new = 新密钥
matrix-stranded = 失联或人工
matrix-how = cargo xtask torture 可重新测量，判定方法见 docs/reliability.md。Esc 关闭

## Decisions of QA

act-new-keys = 更换密钥
act-new-start = 重新开始
act-move = 迁移区域
act-move-to = 迁移到区域 { $region }
act-quarantine = 隔离
act-release = 解除隔离
act-scrap = 报废
act-withdraw = 撤回
refusal-scrapped = 已报废，不再恢复
refusal-in-work = { $serial } 正在为质检处理，请等待其结束或取消
refusal-is-quarantined = 已处于隔离状态
refusal-not-quarantined = 不在隔离状态
refusal-no-order = 它没有未完成的指令
refusal-quarantined = 处于隔离状态，请先解除
refusal-no-fixture = 本站没有可放板子的工位
refusal-other-order = 它有未完成的指令：先执行或撤回
refusal-no-keys = 从未获得密钥，请先在产线上走完所在批次
refusal-product-key = { $order } 的产品密钥已作废
refusal-not-passed = 尚未通过，请先在产线上走完所在批次
refusal-one-region = 本站只有区域 { $region }，用 keywright anchors init 添加其他区域
death-agent-key = 第 { $generation } 代签发方密钥
death-cloud-key = 第 { $generation } 代云密钥
death-cloud-staged = 下发途中的第 { $generation } 代云密钥
death-cloud-leaving = 遗留的第 { $generation } 代云密钥
death-none = 它已没有有效密钥：0 个密钥失效
death-keys = { $count } 个密钥立即失效：{ $keys }
death-list = { $first }；{ $second }
death-flash = 其 Flash 全部擦除：固件、两个密钥区、其存储所依赖的机密
death-cloud = 在用新密钥再次通过之前，云平台不再允许它登录
death-unit = 1 台设备永久退出：云平台不再允许它登录，工位也不再接收它
death-order = 1 条未完成的指令被撤回
purpose-new-keys = 设备用现有密钥申请新的签发方密钥和云密钥。新密钥得到证明后旧密钥失效
purpose-new-start = 用于丢失密钥的设备：先在各处注销旧身份，然后擦除芯片、重新烧录并重新登记
purpose-move = 设备用现有密钥申请新的云密钥和另一区域的信任锚
purpose-quarantine = 在解除隔离之前，不向它签发密钥，云平台也不允许它登录
purpose-release = 恢复到之前的状态，云平台重新允许它登录
purpose-scrap = 永久退出，无法撤销
purpose-withdraw = 收回未完成的指令，已做的部分保持不变
verb-new-keys = 下达更换密钥
verb-new-start = 擦除并重新开始
verb-move = 下达迁移
verb-quarantine = 隔离
verb-release = 放回
verb-scrap = 永久报废
verb-withdraw = 撤回指令
missing-region = 请选择区域
missing-fixture = 请指出板子在哪个工位
missing-running = { $name } 正在运行
missing-trouble = { $name } 无法使用
missing-reason = 请说明原因，它会写入设备的历史
missing-tick = 请勾选确认您知道将销毁什么
decision-title = { $act }，{ $serial }
decision-title-carry = 执行：{ $act }，{ $serial }
decision-where-to = 目前在区域 { $region }。迁往何处？
decision-region = 区域
decision-region-name = 区域 { $region }
decision-which-fixture = 板子在哪个工位？
decision-fixture = 工位
decision-fixture-running = 运行中
decision-fixture-trouble = 无法使用
decision-fixture-board = 已见板子
decision-fixture-empty = 未见板子
decision-option = { $what } { $name }
decision-option-word = { $what } { $name }，{ $word }
decision-why = 原因？{ $operator } 与原因将永久保留在其历史中
decision-why-hint = RMA 编号、现象、由谁提出
decision-why-name = 此决定的原因
decision-sure = 我已阅读；被销毁的内容无法找回
decision-back = 返回
decision-back-name = 返回，不做任何更改
decision-keys = Ctrl+Enter 执行，Esc 返回
decision-no-undo = 此操作无法撤销

## Units that come back

unit-state-arrived = 已到达
unit-state-flashing = 烧录中
unit-state-stage-one = 第一阶段完成
unit-state-agent-key = 已有签发方密钥
unit-state-cloud-key = 已有云密钥
unit-state-passed = 已通过
unit-state-quarantined = 隔离中
unit-state-scrapped = 已报废
units-search-hint = 扫描或输入硬件标识或序列号
units-search-name = 设备的硬件标识或序列号
units-find = 查找
units-find-name = 查找设备
units-empty = 扫描返回的设备
units-empty-text = 标签或 24 位十六进制的硬件标识。您可以看到它的全部经历，并为它更换密钥、重新开始、迁移区域、隔离或报废
units-alarms = { $count ->
    [0] 没有待查看的告警
   *[other] { $count } 条告警待查看：F3
}
unit-key-none = 无
unit-key-generation = 第 { $generation } 代
unit-not-confirmed = { $key }，未确认
unit-on-its-way = { $key }；第 { $generation } 代下发途中
unit-left-behind = { $key }；第 { $generation } 代遗留
unit-region-moves = { $region }，将迁移到 { $wanted }
unit-supersedes-nothing = 无
unit-batch = { $batch }，{ $state }
unit-order = { $order }，{ $model } 版本 { $revision }
unit-attempts-interrupted = { $count }，最后一次被中断
unit-hardware-id = 硬件标识
unit-batch-name = 批次
unit-product-order = 产品订单
unit-agent-key = 签发方密钥
unit-cloud-key = 云密钥
unit-region = 区域
unit-supersedes = 取代
unit-attempts = 尝试次数
unit-copy-id = 复制硬件标识
unit-copy = 复制
unit-open-order = 未完成的指令：{ $act }
unit-order-by = { $operator }：{ $reason }
unit-carry-out = 执行
column-when = 时间
column-order = 指令
column-by = 操作员
column-state = 状态
column-reason = 原因
column-fixture = 工位
column-outcome = 结果
column-why = 说明
column-what = 事件
column-facts = 内容
order-open = 未完成
order-done-keys = 完成：签发方 { $agent }，云 { $cloud }
order-done = 完成
order-withdrawn = 已撤回
order-kind-move = 到区域 { $region }
order-kind-keys = 更换密钥
order-kind-start = 重新开始
story-orders = 质检指令（{ $count }）
story-no-orders = 从未下达
story-attempts = 尝试（{ $count }）
story-history = 历史（{ $count }）
story-proof = 签发方密钥 { $agent }，云密钥 { $cloud }；{ $refused } 个旧密钥被拒绝
story-title = 设备经历
story-copy = 全部复制
story-copy-name = 复制该设备的全部历史
story-copy-hint = 作为报告文本，时间为 UTC
story-copied = 已复制 { $serial } 的历史
story-row-copied = 已复制该行
report-unit = 设备 { $serial }
report-id = 硬件标识 { $id }
report-batch = 批次 { $batch }
report-state = 状态 { $state }
report-keys = 签发方密钥 { $agent }，云密钥 { $cloud }，区域 { $region }

## What the line and the records tell

event-arrived = 到达
event-flash-begin = 开始烧录
event-flash-end = 烧录完成
event-passed = 通过
event-agent-key-issued = 签发方密钥已签发
event-agent-key-active = 签发方密钥已启用
event-agent-key-in-use = 签发方密钥使用中
event-agent-key-voided = 签发方密钥已作废
event-cloud-key-reserved = 云密钥已预留
event-cloud-key-issued = 云密钥已签发
event-cloud-key-active = 云密钥已启用
event-cloud-left = 已离开云平台
event-keys-forgotten = 密钥已遗忘
event-keys-revoked = 密钥已吊销
event-move-ordered = 已下达迁移
event-quarantined = 隔离
event-released = 解除隔离
event-scrapped = 报废
event-reprovision-ordered = 已下达重新配置
event-reprovision-withdrawn = 重新配置已撤回
event-reprovisioned = 已重新配置
event-interrupted = 被中断
event-attempt-ended = 尝试结束
event-alarm = 告警
fact-serial = 序列号
fact-image = 镜像
fact-generation = 代
fact-agent-key = 签发方密钥
fact-cloud-key = 云密钥
fact-order = 指令
fact-reason = 原因
fact-operator = 操作员
fact-state = 状态
fact-cloud = 云平台
fact-region = 区域
fact-voided = 作废
fact-kind = 类型
fact-outcome = 结果
fact-supersedes = 取代
label-opening-the-serial-port = 正在打开串口
label-connecting-to-the-chip = 正在连接芯片
label-comparing-the-flash = 正在比对 Flash
label-locked-take-its-power-away-and-give-it-back = 已锁定：请断开其电源再接通
label-asking-the-unit-to-renew-its-key = 正在请设备更新密钥
label-its-cloud-tells-it-to-renew-its-key = 云平台正在通知它更新密钥
label-restarting = 正在重启
label-asking-for-the-proof = 正在请求证明
label-checking-the-proof = 正在检查证明
label-waiting-for-its-login-at-the-cloud = 正在等待其登录云平台
label-trying-its-old-keys = 正在尝试其旧密钥
label-reading-the-option-bytes = 正在读取选项字节
label-setting-the-option-bytes = 正在写入选项字节
label-trying-to-read-its-flash = 正在尝试读取其 Flash
alarm-another-identity = 出示的身份密钥不是它自己的：可能有人冒充
alarm-enrolled-again = 已有密钥却再次申请首次密钥：其产品密钥可能已泄露
alarm-cloud-key-unknown = 声称拥有从未给过它的云密钥
alarm-invalid-product-key = 使用已作废的产品密钥申请
alarm-activation-rate = 每小时登记的设备多于预期：其产品密钥可能已泄露
alarm-activations-over-plan = 申请的设备多于订购数量：其产品密钥可能已泄露
alarm-unit = 设备 { $unit }：{ $what }
alarm-unit-serial = 设备 { $serial }（{ $unit }）：{ $what }
alarm-order = 产品订单 { $name }：{ $what }

## Failures: by code, sentence and what to do

failure-101 = 未找到调试探针
failure-101-remedy = 插好探针并检查其 USB 线
failure-102 = 调试探针正被其他程序占用
failure-102-remedy = 关闭该程序后重试
failure-103 = 调试探针不再响应
failure-103-remedy = 检查探针的线缆后重试
failure-104 = 两个探针看起来相同，无法区分工位
failure-104-remedy = 在 station.toml 中为每个工位指定探针和串口
failure-105 = SWD 上没有芯片应答
failure-105-remedy = 将板子在工位中放好并检查供电
failure-106 = 芯片与产品订单指定的型号不符
failure-106-remedy = 将板子放到一边，检查它是否属于本批次
failure-107 = 芯片已读保护，之前有人锁定过它
failure-107-remedy = 将板子交给质检重新配置
failure-108 = 串口上报的标识与工位中芯片的标识不一致
failure-108-remedy = 两根线接反了：检查哪个串口属于本工位
failure-109 = 芯片没有可用的标识（全零或全 FF）
failure-109-remedy = 将板子作为不良品放到一边
failure-110 = 工位中的板子不是开始时的那一块
failure-110-remedy = 放回原来的板子，或单独启动新板子
failure-111 = 芯片带有并非本站签发的密钥
failure-111-remedy = 将板子交给质检，它可能属于其他站或订单
failure-112 = 设备此前已通过，但芯片上已没有它的密钥
failure-112-remedy = 交给质检重新配置
failure-113 = 芯片未能锁定
failure-113-remedy = 再试一次，若再次发生则将板子放到一边
failure-114 = 本站不会写入这样的选项字节
failure-114-remedy = 将板子放到一边，并把此消息发给供应商
failure-115 = 设备已锁定且被调试器访问过，断电之前不会继续运行
failure-115-remedy = 重新启动，按提示断开板子电源再接通
failure-201 = 无法读取公共固件镜像
failure-201-remedy = 检查 station.toml 中的路径，或重新构建镜像
failure-202 = 公共固件镜像属于其他产品
failure-202-remedy = 选择本产品订单的镜像
failure-203 = 公共固件镜像不完整或被改动
failure-203-remedy = 从发布包重新复制
failure-204 = 镜像的向量表指向其槽位之外
failure-204-remedy = 使用原始发布的镜像，此镜像无法启动
failure-205 = 公共固件镜像不是本产品订单最初使用的镜像
failure-205-remedy = 使用最初的镜像，或新建产品订单
failure-206 = 芯片拒绝擦除或烧录
failure-206-remedy = 再试一次，若再次发生则将板子放到一边
failure-207 = Flash 读回内容与写入内容不一致
failure-207-remedy = 再试一次，若再次发生则将板子放到一边
failure-208 = 板子或其供电已断开
failure-208-remedy = 重新放好板子并启动，它会自动从断点继续
failure-301 = 串口不存在
failure-301-remedy = 检查线缆以及 station.toml 中的串口名
failure-302 = 串口被占用
failure-302-remedy = 关闭占用它的程序后重试
failure-303 = 串口在使用中消失
failure-303-remedy = 检查线缆后重新启动该设备，它会从断点继续
failure-304 = 板子在串口上没有应答
failure-304-remedy = 检查串口接线（TX/RX）后重试
failure-305 = 板子发送了无法识别的字节
failure-305-remedy = 检查波特率和地线，然后重新烧录
failure-306 = 板子使用另一个协议版本
failure-306-remedy = 使用与此固件匹配的站软件版本
failure-307 = 板子报告了失败
failure-307-remedy = 按用户指南中该代码的说明处理
failure-401 = 密钥交换未能按时完成
failure-401-remedy = 重新启动该设备，它会从断点继续
failure-402 = 签发方不认识此产品密钥
failure-402-remedy = 检查该产品订单是否已导入本签发方
failure-403 = 批次的计划数量已满
failure-403-remedy = 关闭批次，或请供应商提高数量
failure-404 = 签发方已给过此设备密钥
failure-404-remedy = 交给质检重新配置
failure-405 = 签发方拒绝了此设备
failure-405-remedy = 连同此代码交给质检
failure-406 = 云平台拒绝了此设备
failure-406-remedy = 检查设置中的云平台适配器后重试
failure-407 = 本站没有该区域的签名密钥
failure-407-remedy = 运行 keywright anchors init，或导入该区域
failure-408 = 设备请求的消息服务器不是它自己的
failure-408-remedy = 连同此代码交给质检：设备记录与本站记录不一致
failure-409 = 已被替换的密钥仍能登录云平台
failure-409-remedy = 检查消息服务器的账户后重试，不要出货该设备
failure-410 = 订单的产品密钥已作废
failure-410-remedy = 请供应商提供新的产品订单，此订单下不再生产
failure-501 = 设备无法证明签发给它的密钥
failure-501-remedy = 放到一边，交给质检
failure-502 = 有密钥读出为全零或全 FF
failure-502-remedy = 将设备放到一边，交给质检
failure-503 = 设备没有登录其云平台
failure-503-remedy = 重试，若再次发生则检查订单的云平台是否正确
failure-504 = 云平台不接受此设备的密钥
failure-504-remedy = 将设备放到一边，交给质检
failure-505 = 本站无法连接设备的消息服务器
failure-505-remedy = 检查消息服务器是否运行、网络是否正常，然后重试
failure-601 = 批次不接收设备
failure-601-remedy = 重新打开批次，或选择其他批次
failure-602 = 此设备属于其他批次
failure-602-remedy = 将它放回自己的批次
failure-603 = 此设备处于隔离状态
failure-603-remedy = 交给质检
failure-604 = 此设备已报废
failure-604-remedy = 将它从产线上取走
failure-605 = 本站无法写入记录
failure-605-remedy = 按消息处理后重新启动该设备，没有丢失任何数据
failure-606 = 该名称已被使用
failure-606-remedy = 换一个名称
failure-607 = 设备处理过程中本站停止了
failure-607-remedy = 重新启动该设备，它会从断点继续
failure-608 = 该值无法使用
failure-608-remedy = 更正后重试
failure-609 = 导出文件无法读取或写入
failure-609-remedy = 检查文件夹、权限和剩余空间，然后重新导出
failure-610 = 清单无法打开
failure-610-remedy = 使用其中一个接收方的私钥，或重新索取文件
failure-611 = 清单与签名时的内容不符
failure-611-remedy = 不要使用它，请发送方重新提供
failure-612 = 口令无法打开本站
failure-612-remedy = 重新输入，或用 keywright passphrase store 保存正确的口令
failure-613 = 本站的机密数据无法打开
failure-613-remedy = 按消息处理，若文件损坏则从备份恢复
failure-614 = 设备没有可更新的密钥
failure-614-remedy = 先让它走完所在批次，若之前已通过则交给质检
failure-615 = 设备没有开始更新
failure-615-remedy = 一分钟后重试，若再次发生则交给质检
failure-616 = 失败的设备太多，发布已停止
failure-616-remedy = 查明失败原因后重新开始发布，它会从停止处继续
failure-617 = 工位中的设备不是指令所指的那一台
failure-617-remedy = 放入正确的设备后重新启动
failure-640 = 无法完成备份
failure-640-remedy = 按提示处理后重新执行 keywright backup；工作站自身的文件没有改变
failure-641 = 无法恢复该备份
failure-641-remedy = 请换用另一个备份；本工作站没有任何改变
failure-701 = 配置无法使用
failure-701-remedy = 在消息指出的位置更正 station.toml
failure-702 = 未选择批次
failure-702-remedy = 选择设备所属的批次后重新启动
failure-703 = 批次正在等待抽样检查
failure-703-remedy = 检查样品后重新打开批次
failure-704 = 站软件自身出错
failure-704-remedy = 重新启动该设备，若再次发生则把日志发给供应商
failure-801 = 操作员已取消
failure-801-remedy = 准备好后重新启动该设备
failure-620 = 历史记录在本站之外被改动
failure-620-remedy = 保留现有文件，恢复最近的备份，并查明谁能访问这台电脑
failure-810 = 此人员无权这样做
failure-810-remedy = 请有权限的人来做
failure-811 = 没有人登录
failure-811-remedy = 说明谁在这里工作：--person 姓名和 PIN，或在窗口登录
failure-812 = 姓名、PIN 或工牌有误
failure-812-remedy = 再试一次；管理员可用 keywright people pin 设置新 PIN
failure-813 = 错误次数过多
failure-813-remedy = 请等待，或请管理员用 keywright people unlock 解锁

## People: roles and what is for whom

role-technician = 技术员
role-qa = 质检
role-vendor = 供应商工程师
role-admin = 管理员
gate-log-in-first = 请先登录
gate-only-qa = 仅限质检、供应商工程师或管理员
gate-only-vendor = 仅限供应商工程师或管理员
gate-only-admin = 仅限管理员
gate-units = 返回的设备
header-person = 人员
open-banner = 这是开放站：任何人都可以用任意姓名做任何事
menu-switch = 切换人员
menu-lock = 锁定
help-lock = 换人，锁定
foot-keys-people = F2 产线 · F8 切换人员 · F9 锁定 · F1 帮助

## Lock screen

lock-locked = 已锁定
lock-who = 谁在这里工作？
lock-logged-in = { $name } 已登录
lock-units = { $count } 台设备继续为 { $name } 运行
lock-pick = 选择姓名，或扫描工牌
lock-field = 姓名，或扫描工牌
lock-pin = { $name } 的 PIN
lock-clear = 清除
lock-log-in = 登录
lock-digit = 数字 { $digit }
lock-another = 其他人员
lock-too-many = 错误次数过多
lock-again = { $seconds } 秒后再试，或请管理员解锁

## People

people-title = 人员
people-add = 添加人员
people-add-do = 添加此人员
people-create-admin = 创建管理员
people-save = 保存
people-back = 返回
people-back-name = 返回，不作更改
people-role-of = { $name } 的角色
people-pin-of = { $name } 的新 PIN
people-badge-of = { $name } 的工牌
people-no-way-back = 从现在起，每个人都用姓名和 PIN 或工牌登录。不能再回到开放站。
people-name = 姓名
people-role = 角色
people-pin = PIN 码
people-pin-again = 再次输入相同的 PIN
people-badge-scan = 扫描工牌
people-badge-optional = 扫描工牌，或留空
people-missing-name = 输入姓名；它写入每条记录，且不能更改
people-missing-pin = 选择至少 { $count } 个字符的 PIN
people-pin-weak = 这个 PIN 人人都会先试：请避开连续、重复的字符和姓名
people-pin-twice = 请两次输入相同的 PIN
people-missing-badge = 扫描 6 到 128 个字符的工牌
people-missing-role = 选择另一个角色
people-button-role = 角色…
people-button-pin = 新 PIN…
people-button-badge = 工牌…
people-button-take = 收回工牌
people-take-name = 收回 { $name } 的工牌
people-button-unlock = 解锁
people-unlock-name = 解锁 { $name }
people-button-off = 停用
people-off-name = 停用 { $name }
people-button-on = 启用
people-on-name = 启用 { $name }
people-with-badge = 有工牌
people-no-badge = 无工牌
people-state-off = 已停用
people-state-locked = 错误 { $count } 次后已锁定
people-state-ok = 可以登录
people-state-tries = 可以登录，错误 { $count } 次
people-line = { $role }，{ $badge }，{ $state }
told-working = 处理中…
done-added = { $name } 在此工作，角色为{ $role }
done-role = { $name } 现在是{ $role }
done-pin = { $name } 有了新 PIN
done-badge = { $name } 有了新工牌
done-no-badge = { $name } 没有工牌
done-on = { $name } 可以再次登录
done-off = { $name } 已停用
done-unlocked = { $name } 可以再试
done-whole = 两份历史均完整：审计日志 { $audit } 行，设备事件 { $events } 条
done-exported = { $rows } 行已写入 { $file }

## Audit log

audit-title = 审计日志
audit-verify = 校验
audit-export = 导出
audit-again = 重新读取
audit-row = 行
audit-when = 时间
audit-person = 人员
audit-action = 操作
audit-subject = 对象
audit-facts = 详情
audit-by-person = 按人员
audit-by-action = 按操作
audit-about = 按批次、订单、设备或人员
audit-none = 没有符合的行
audit-newest = 符合条件的最新 { $count } 行；导出包含全部
