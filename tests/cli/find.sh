#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: find.sh SKEP SOURCE
#
# What the default guest would start from a disk (tools/lib/guest-find.awk and guest-grub.awk), by the files that distributions'
# boot loaders have, in directories instead of file systems.
# shellcheck disable=SC2016,SC1003 # the scripts are GRUB's
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
programs=$2/tools/lib/guest
: >"$tmp/out"
: >"$tmp/err"
if ! command -v awk >/dev/null; then
	echo "1..0 # SKIP there is no awk"
	exit 0
fi
m=$tmp/mounts
uuid=0b7c1f6e-3d2a-4b5c-8e9f-a0b1c2d3e4f5

# disk DEVICE TYPE [LABEL]...: what is mounted. The first has the UUID.
disk() {
	local id=$uuid
	rm -rf "$m"
	: >"$tmp/devices"
	for device; do
		mkdir -p "$m/${device%%:*}"
		echo "${device%%:*} $(cut -d : -f 2 <<<"$device") $id $(cut -d : -f 3 -s <<<"$device")" >>"$tmp/devices"
		id=A1B2-C3D4
	done
}
put() {
	mkdir -p "$m/${1%/*}"
	cat >"$m/$1"
}
have() {
	local f
	for f; do echo "$f" | put "$f"; done
}
find_on() { awk -f "$programs-find.awk" -f "$programs-grub.awk" -v mounts="$m" -v disk=vda "$tmp/devices" >"$tmp/out" 2>"$tmp/err"; }
# boots NAME LOADER KERNEL INITRDS OPTIONS: this, with nothing to complain of.
boots() {
	find_on || : >"$tmp/out"
	{
		echo "loader $2"
		grep '^title ' "$tmp/out" || true
		echo "${how:-linux} $m/$3"
		for f in $4; do echo "initrd $m/$f"; done
		echo "options $5"
	} >"$tmp/want"
	ok "$1" cmp -s "$tmp/want" "$tmp/out"
}
title_is() { ok "$1" grep -qxF "title $2" "$tmp/out"; }
finds_nothing() { ! find_on; }
notes() { grep -qF -- "$1" "$tmp/err"; }

# --- GRUB, as Debian's grub-mkconfig writes it

debian_cfg() {
	cat <<-'END'
		### BEGIN /etc/grub.d/00_header ###
		if [ -s $prefix/grubenv ]; then
		  set have_grubenv=true
		  load_env
		fi
		if [ "${next_entry}" ] ; then
		   set default="${next_entry}"
		   set next_entry=
		   save_env next_entry
		   set boot_once=true
		else
		   set default="DEFAULT"
		fi
		if [ x"${feature_menuentry_id}" = xy ]; then
		  menuentry_id_option="--id"
		else
		  menuentry_id_option=""
		fi
		export menuentry_id_option
		function savedefault {
		  if [ -z "${boot_once}" ]; then
		    saved_entry="${chosen}"
		    save_env saved_entry
		  fi
		}
		function load_video {
		  if [ x$feature_all_video_module = xy ]; then
		    insmod all_video
		  else
		    insmod efi_gop; insmod vga # and so on
		  fi
		}
		if loadfont $font ; then
		  set gfxmode=auto
		  load_video
		fi
		terminal_output gfxterm
		if [ "${recordfail}" = 1 ] ; then set timeout=30 ; else
		  if [ x$feature_timeout_style = xy ] ; then
		    set timeout_style=menu
		    set timeout=5
		  fi
		fi
		menuentry 'Debian GNU/Linux' --class debian --class os $menuentry_id_option 'gnulinux-simple' {
			load_video
			insmod gzio
			if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
			set root='hd0,gpt9'
			if [ x$feature_platform_search_hint = xy ]; then
			  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt9 --hint-efi=hd0,gpt9  UUID
			else
			  search --no-floppy --fs-uuid --set=root UUID
			fi
			echo	'Loading Linux 6.1.0-13-amd64 ...'
			linux	BOOT/vmlinuz-6.1.0-13-amd64 root=UUID=UUID ro console=ttyS0,115200 \
				quiet
			initrd	BOOT/initrd.img-6.1.0-13-amd64
		}
		submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced' {
			menuentry 'Debian GNU/Linux, with Linux 6.1.0-13-amd64' --class os $menuentry_id_option 'gnulinux-13' {
				search --no-floppy --fs-uuid --set=root UUID
				linux	BOOT/vmlinuz-6.1.0-13-amd64 root=UUID=UUID ro advanced
				initrd	BOOT/initrd.img-6.1.0-13-amd64
			}
			menuentry "It's \"old\" \$9" --class os $menuentry_id_option 'gnulinux-9' {
				search --no-floppy --fs-uuid --set=root UUID
				linux	BOOT/vmlinuz-6.1.0-9-amd64 root=UUID=UUID ro single 'dyndbg=file x +p'
				initrd	/microcode BOOT/initrd.img-6.1.0-9-amd64
			}
		}
		if [ -f  ${config_directory}/custom.cfg ]; then
		  source ${config_directory}/custom.cfg
		elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
		  source $prefix/custom.cfg
		fi
	END
}
# debian DEVICE BOOT DEFAULT: its files, /boot being BOOT in that file system.
debian() {
	debian_cfg | sed "s|BOOT|$2|; s|DEFAULT|$3|; s|\<UUID\([^=]\)|$uuid\1|; s|\<UUID\$|$uuid|; s|=UUID=UUID|=UUID=$uuid|" |
		put "$1$2/grub/grub.cfg"
	have "$1$2"/{vmlinuz,initrd.img}-6.1.0-{9,13}-amd64
}

disk vda1:ext4:root vda15:vfat
debian vda1 /boot 0
boots "Debian" "GRUB, vda1:/boot/grub/grub.cfg" vda1/boot/vmlinuz-6.1.0-13-amd64 vda1/boot/initrd.img-6.1.0-13-amd64 \
	"root=UUID=$uuid ro console=ttyS0,115200 quiet"
title_is "has a name" 'Debian GNU/Linux'
ok "there is nothing to say beside" err_is_empty
disk vda2:ext4:boot vda3:xfs
debian vda2 "" 0
boots "/boot is a file system of its own" "GRUB, vda2:/grub/grub.cfg" vda2/vmlinuz-6.1.0-13-amd64 vda2/initrd.img-6.1.0-13-amd64 \
	"root=UUID=$uuid ro console=ttyS0,115200 quiet"
disk vda1:ext4
have vda1/microcode
for default in '1>1' 'gnulinux-advanced>gnulinux-9' "Advanced options for Debian GNU/Linux>It's \\\\\"old\\\\\" \\\\\$9"; do
	debian vda1 /boot "$default"
	boots "the default is ${default//\\/}" "GRUB, vda1:/boot/grub/grub.cfg" vda1/boot/vmlinuz-6.1.0-9-amd64 \
		"vda1/microcode vda1/boot/initrd.img-6.1.0-9-amd64" "root=UUID=$uuid ro single \"dyndbg=file x +p\""
done
debian vda1 /boot "\${saved_entry}"
printf '# GRUB Environment Block\nsaved_entry=gnulinux-advanced>gnulinux-13\nnext_entry=1>1\n####' | put vda1/boot/grub/grubenv
boots "the default is what was saved; what is for the next start alone is not" "GRUB, vda1:/boot/grub/grub.cfg" \
	vda1/boot/vmlinuz-6.1.0-13-amd64 vda1/boot/initrd.img-6.1.0-13-amd64 "root=UUID=$uuid ro advanced"
echo 'set default=gnulinux-9; menuentry Mine { linux /mine a  "" b; }; set default=Mine' | put vda1/boot/grub/custom.cfg
have vda1/mine
boots "a script that is sourced" "GRUB, vda1:/boot/grub/grub.cfg" vda1/mine "" "a  b"
rm "$m"/vda1/mine
boots "an entry whose kernel is missing is passed over" "GRUB, vda1:/boot/grub/grub.cfg" vda1/boot/vmlinuz-6.1.0-13-amd64 \
	vda1/boot/initrd.img-6.1.0-13-amd64 "root=UUID=$uuid ro console=ttyS0,115200 quiet"
ok "which is said" notes "'Mine': vda1 has no /mine"
rm "$m"/vda1/boot/initrd.img-6.1.0-13-amd64
find_on || true
ok "so is one whose initrd is missing" notes "'Debian GNU/Linux': vda1 has no /boot/initrd.img-6.1.0-13-amd64"
disk vda1:ext4 vdb1:ext4
debian vdb1 /boot 0
ok "of another disk it takes nothing" finds_nothing

# --- as on Ubuntu's cloud images: no initrd at first, the root by label, the ESP with a stub

disk vda1:ext4:cloudimg-rootfs vda15:vfat:UEFI vda16:ext4:BOOT
put vda16/grub/grub.cfg <<-END
	function recordfail { set recordfail=1; if [ -n "\${have_grubenv}" ]; then save_env recordfail; fi; }
	function initrdfail {
	    if [ -n "\${have_grubenv}" ]; then if [ -n "\${partuuid}" ]; then
	      if [ -z "\${initrdfail}" ]; then set initrdfail=1; fi; fi; fi
	}
	if [ "\${initrdfail}" = 2 ]; then
	   set initrdfail=
	elif [ "\${initrdfail}" = 1 ]; then
	   set next_entry="\${prev_entry}"
	   set prev_entry=
	   if [ "\${next_entry}" ]; then set initrdfail=2; fi
	fi
	for i in a b; do last=\$i; done
	menuentry 'Ubuntu' --class ubuntu {
		recordfail
		gfxmode \$linux_gfx_mode
		search --no-floppy --label --set=root BOOT
		if [ "\${initrdfail}" = 1 ]; then
		  linux	/vmlinuz-6.8.0-31-generic root=LABEL=cloudimg-rootfs ro console=tty1 console=ttyS0 last=\$last
		  initrd /initrd.img-6.8.0-31-generic
		else
		  linux	/vmlinuz-6.8.0-31-generic root=LABEL=cloudimg-rootfs ro panic=-1
		fi
		initrdfail
	}
END
have vda16/{vmlinuz,initrd.img}-6.8.0-31-generic
ubuntu() {
	boots "$1" "GRUB, vda16:/grub/grub.cfg" vda16/vmlinuz-6.8.0-31-generic vda16/initrd.img-6.8.0-31-generic \
		"root=LABEL=cloudimg-rootfs ro console=tty1 console=ttyS0 last=b"
}
ubuntu "Ubuntu-like, which would first try to do without its initrd"
mkdir "$m/vda16/elsewhere"
mv "$m/vda16/grub" "$m/vda16/elsewhere/grub"
printf "search.fs_label BOOT root\nset prefix=(\$root)'/elsewhere/grub'\nconfigfile \$prefix/grub.cfg\n" | put vda15/EFI/ubuntu/grub.cfg
find_on || true
ok "by way of the stub on the ESP" grep -qx "loader GRUB, vda16:/elsewhere/grub/grub.cfg" "$tmp/out"

# --- as on Fedora: blscfg, variables

disk vda1:vfat vda2:ext4 vda3:btrfs:fedora
fedora_entry() { # VERSION [LINE...]
	{
		printf 'title Fedora Linux (%s) 40\nversion %s\n' "$1" "$1"
		printf 'linux /vmlinuz-%s\ninitrd /initramfs-%s.img $tuned_initrd\n' "$1" "$1"
		printf 'options $kernelopts $tuned_params rhgb\ngrub_users $grub_users\n'
	} | put "vda2/loader/entries/0123456789-$1.conf"
	have "vda2/vmlinuz-$1" "vda2/initramfs-$1.img"
}
fedora_entry 6.8.5-301.fc40.x86_64
fedora_entry 6.8.10-300.fc40.x86_64
fedora_entry 0-rescue
put vda2/grub2/grub.cfg <<-'END'
	set pager=1
	if [ -f ${config_directory}/grubenv ]; then
	  load_env -f ${config_directory}/grubenv
	elif [ -s $prefix/grubenv ]; then
	  load_env
	fi
	if [ "${next_entry}" ] ; then set default="${next_entry}"; else set default="${saved_entry}"; fi
	if [ -z "${kernelopts}" ]; then
	  set kernelopts="root=UUID=1 ro rootflags=subvol=root"
	fi
	insmod blscfg
	blscfg
	if [ "${boot_success}" = "1" -o "${boot_indeterminate}" = "1" ]; then set menu_hide_ok=1; else set menu_hide_ok=0; fi
	if [ ! "${menu_hide_ok}" = 0 -a 1 -lt 2 ]; then set timeout=1; fi
END
boots "Fedora-like: the newest entry" "GRUB, vda2:/grub2/grub.cfg" vda2/vmlinuz-6.8.10-300.fc40.x86_64 \
	vda2/initramfs-6.8.10-300.fc40.x86_64.img "root=UUID=1 ro rootflags=subvol=root  rhgb"
printf '# GRUB Environment Block\nsaved_entry=0123456789-6.8.5-301.fc40.x86_64\nkernelopts=root=/dev/x ro\n##' | put vda2/grub2/grubenv
boots "or the saved one, with the saved options" "GRUB, vda2:/grub2/grub.cfg" vda2/vmlinuz-6.8.5-301.fc40.x86_64 \
	vda2/initramfs-6.8.5-301.fc40.x86_64.img "root=/dev/x ro  rhgb"
rm -r "$m/vda2/grub2"
sed -i 's/ \$tuned_initrd//; s/\$kernelopts \$tuned_params/root=UUID=2/' "$m"/vda2/loader/entries/*
boots "entries without a loader that is known" "its boot loader entries" vda2/vmlinuz-6.8.10-300.fc40.x86_64 \
	vda2/initramfs-6.8.10-300.fc40.x86_64.img "root=UUID=2 rhgb"

# --- as on openSUSE: btrfs, paths within the default subvolume, or from the top

disk vda3:btrfs vda2:vfat
mkdir -p "$m/vda3.top"
suse() {
	put "$1/boot/grub2/grub.cfg" <<-END
		set btrfs_relative_path="y"
		if [ -f \${config_directory}/grubenv ]; then load_env -f \${config_directory}/grubenv; fi
		if [ "\${env_block}" ] ; then
		  set env_block="(\${root})\${env_block}"
		  load_env -f "\${env_block}"
		fi
		menuentry 'openSUSE Leap 15.6' --class opensuse --hotkey=o --unrestricted {
			search --no-floppy --fs-uuid --set=root  $uuid
			linux $2/boot/vmlinuz-6.4.0-150600.21-default root=UUID=$uuid  \${extra_cmdline} splash=silent
			initrd $2/boot/initrd-6.4.0-150600.21-default
		}
		if [ -n "\$extra" ]; then
		  menuentry 'none' { linux /none; }
		fi
	END
	have "$1"/boot/{vmlinuz,initrd}-6.4.0-150600.21-default
}
suse vda3 ""
boots "openSUSE-like" "GRUB, vda3:/boot/grub2/grub.cfg" vda3/boot/vmlinuz-6.4.0-150600.21-default \
	vda3/boot/initrd-6.4.0-150600.21-default "root=UUID=$uuid splash=silent"
rm -r "$m/vda3/boot"
suse vda3.top/@ /@
boots "from the btrfs's top level" "GRUB, vda3:/@/boot/grub2/grub.cfg" vda3.top/@/boot/vmlinuz-6.4.0-150600.21-default \
	vda3.top/@/boot/initrd-6.4.0-150600.21-default "root=UUID=$uuid splash=silent"

# --- systemd-boot

disk vda1:vfat vda2:ext4
have vda1/EFI/systemd/systemd-bootx64.efi vda1/abc/{6.1,6.9,6.10}/{linux,initrd}
for v in 6.1 6.9 6.10; do
	printf '# it\r\ntitle      Some Linux\nversion    %s\nmachine-id abc\nsort-key   some\noptions    root=/dev/vda2 v=%s\nlinux      /abc/%s/linux\ninitrd     /abc/%s/initrd\n' \
		$v $v $v $v | put "vda1/loader/entries/abc-$v.conf"
done
printf 'title EFI shell\nefi /shell.efi\n' | put vda1/loader/entries/shell.conf
printf 'title Arm\nlinux /abc/6.10/linux\narchitecture aa64\nsort-key a\n' | put vda1/loader/entries/zzz.conf
sd() { boots "$1" "systemd-boot on vda1" "vda1/abc/$2/linux" "vda1/abc/$2/initrd" "root=/dev/vda2 v=$2"; }
sd "systemd-boot: the newest version" 6.10
echo 'default *-6.9.conf' | put vda1/loader/loader.conf
sd "or what loader.conf names" 6.9
echo 'default @saved' | put vda1/loader/loader.conf
mv "$m/vda1/loader/entries/abc-6.10.conf" "$m/vda1/loader/entries/abc-6.10+0-3.conf"
sd "an entry that was tried in vain comes last" 6.9
have vda1/EFI/Linux/zz-7.0.efi
echo 'default zz-*' | put vda1/loader/loader.conf
how=uki boots "a unified kernel image" "systemd-boot on vda1" vda1/EFI/Linux/zz-7.0.efi "" ""
disk vda1:vfat
printf 'MZ..PE..\0\0.text\0\0\0.linux\0\0' | put vda1/EFI/BOOT/BOOTX64.EFI
how=uki boots "which is the firmware's default" "the firmware's default on vda1" vda1/EFI/BOOT/BOOTX64.EFI "" ""

# --- no loader

disk vda:ext4
have vda/boot/{vmlinuz,initrd.img}-6.1.0-{9,13}-amd64 vda/boot/vmlinuz-0-rescue
none="no boot loader: a kernel that was found"
boots "only kernels: the newest" "$none" vda/boot/vmlinuz-6.1.0-13-amd64 vda/boot/initrd.img-6.1.0-13-amd64 ro
ln -s boot/vmlinuz-6.1.0-9-amd64 "$m/vda/vmlinuz"
ln -s boot/initrd.img-6.1.0-9-amd64 "$m/vda/initrd.img"
boots "or where a link points" "$none" vda/vmlinuz vda/initrd.img ro
disk vda1:ext4
ok "nothing at all" finds_nothing
# What no loader wrote.
for text in 'if' 'menuentry' 'menuentry x {' 'if true; then' '}' 'fi' "'" '"' 'function' 'for' 'source /boot/grub/grub.cfg' '\' '${' \
	'set default=x; submenu y { submenu z { }; }' 'function f { f; }' 'linux' 'initrd' 'search' '[' 'load_env -f'; do
	echo "$text" | put vda1/boot/grub/grub.cfg
	ok "a script that is no good: $text" finds_nothing
done
printf 'linux\n' | put vda1/loader/entries/x.conf
ok "nor is an entry without a kernel" finds_nothing

done_testing
